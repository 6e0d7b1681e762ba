"""Whatever a folder of any format holds, it is read, or one sentence says why not."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskrcnn.files import cache_folder

from . import fuzz_doors, fuzz_sets
from .fuzz_doors import Outcome

MEMORY = 3 << 30
"""Bytes that a process may write to."""
BATCH = 500
"""Inputs of one process."""
HANGS = 120
"""Seconds after which an input ends its process."""
AT_ONCE = os.cpu_count() or 1
"""Processes that run together."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory, own_cache) -> dict[str, Path]:
    return fuzz_sets.write_sets(tmp_path_factory.mktemp("sets"))


def told(outcomes: list[Outcome]) -> str:
    """How many of each format were read, and which took longest."""
    forms = Counter(one.form for one in outcomes)
    read = Counter(one.form for one in outcomes if one.read)
    lines = [f"{form}: {read[form]} read, {forms[form] - read[form]} refused" for form in sorted(forms)]
    slowest = sorted(outcomes, key=lambda one: -one.seconds)[:3]
    lines += [f"slowest: seed {one.seed} ({one.form}), {one.seconds:.1f} s" for one in slowest]
    return "\n".join([*lines, f"all: {read.total()} read, {len(outcomes) - read.total()} refused"])


def wrong(outcomes: list[Outcome]) -> list[str]:
    return [f"seed {one.seed}, {one.form}, {problem}" for one in outcomes for problem in one.problems]


def in_processes(seeds: range, sets: dict[str, Path], folder: Path) -> Iterator[Outcome]:
    """Run inputs, a batch in a process of its own with little memory; one that ends a process is told."""
    batches = [range(start, min(seeds.stop, start + BATCH)) for start in seeds[::BATCH]]
    for together in (batches[start : start + AT_ONCE] for start in range(0, len(batches), AT_ONCE)):
        logs = [folder / f"{batch.start}.jsonl" for batch in together]
        children = [_fork(batch, sets, folder, log) for batch, log in zip(together, logs, strict=True)]
        for batch, log, child in zip(together, logs, children, strict=True):
            _, status = os.waitpid(child, 0)
            found = [Outcome(*json.loads(line)) for line in log.read_text().splitlines()]
            yield from found
            if status or len(found) < len(batch):
                yield Outcome(batch[len(found)], "?", False, 0, [f"its process ended with status {status}"])


def _fork(batch: range, sets: dict[str, Path], folder: Path, log: Path) -> int:
    """The number of a process that runs a batch, and writes a line for each input."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        cache = folder / f"cache {batch.start}"
        cache.mkdir()
        (cache / "kernels").symlink_to(cache_folder() / "kernels", target_is_directory=True)
        os.environ["MASKRCNN_CACHE"] = str(cache)
        fuzz_doors.limit_memory(MEMORY)
        with log.open("w", buffering=1) as file:
            for seed in batch:
                signal.alarm(HANGS)
                file.write(json.dumps(fuzz_doors.run(seed, sets, folder, 3)) + "\n")
        status = 0
    finally:
        os._exit(status)


def test_a_broken_data_set_is_read_or_refused_with_a_sentence(sets, new_cache, tmp_path):
    outcomes = [fuzz_doors.run(seed, sets, tmp_path, 2) for seed in range(250)]
    assert not wrong(outcomes), "\n\n".join(wrong(outcomes)[:20])


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_ten_thousand_broken_data_sets_are_read_or_refused_with_a_sentence(sets, new_cache, tmp_path, capsys):
    fuzz_doors.run(10_000, sets, tmp_path, 9)  # compiles kernels
    outcomes = list(in_processes(range(10_000), sets, tmp_path))
    with capsys.disabled():
        print(f"\n{told(outcomes)}")
    assert not wrong(outcomes), "\n\n".join(wrong(outcomes)[:20])
