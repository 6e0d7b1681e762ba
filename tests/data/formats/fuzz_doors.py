"""The doors through which people bring data, and what may come out: data that hold together, or one sentence."""

import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from maskrcnn.cli import health
from maskrcnn.config import Data
from maskrcnn.data.convert import convert_data
from maskrcnn.data.dataset import Dataset, summary
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.health.check import entries
from maskrcnn.data.health.repaired_copy import write_repaired
from maskrcnn.data.recognise import recognise
from maskrcnn.data.split import open_split
from maskrcnn.evaluate import coco as scores
from maskrcnn.masks import bitmap_from_rings, window_of
from maskrcnn.sentences import Note

from . import fuzz_files, fuzz_sets

SLOW = 5.0
"""Seconds of a processor that no input may take."""
LONGEST = 2000
"""Characters of a sentence."""
OPEN = "open train"
ARCHIVES = (".zip", ".tar", ".tar.gz")
SET = "set"
"""Name of every data set."""


class Outcome(NamedTuple):
    """What came of one input."""

    seed: int
    form: str
    read: bool
    """Whether its training images could be read."""
    seconds: float
    problems: list[str]


def run(seed: int, sets: dict[str, Path], folder: Path, num_doors: int) -> Outcome:
    """Break a data set and bring it through some doors: that of training, and others by chance."""
    random = Random(seed)
    form = random.choice(list(sets))
    root = folder / f"{seed}" / SET
    shutil.copytree(sets[form], root)
    fuzz_files.mutate(random, root)
    if form in FORMATS and random.random() < 0.1:
        form, packed = "archive", root.with_name(SET + random.choice(ARCHIVES))
        fuzz_files.pack(random, root, packed)
        root = packed
    problems: list[str] = []
    begin, read = time.process_time(), {}
    first, *others = _doors(random, form, root, folder / f"{seed}" / "out")
    for name, door in [first, *random.sample(others, min(num_doors - 1, len(others)))]:
        start = time.process_time()
        try:
            read[name] = _through(door, str(folder / f"{seed}"), problems, name)
        except Exception:
            problems.append(f"{name}: {traceback.format_exc()}")
        if time.process_time() - start > SLOW:
            problems.append(f"{name}: took {time.process_time() - start:.1f} s")
    seconds = time.process_time() - begin
    shutil.rmtree(folder / f"{seed}")
    shutil.rmtree(Path(os.environ["MASKRCNN_CACHE"]) / "archives", ignore_errors=True)
    return Outcome(seed, form, read.get(OPEN, False), seconds, problems)


def _doors(random: Random, form: str, root: Path, dest: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    own = root / fuzz_sets.SPLIT
    settings = Data(dataset_dir=str(root), split_file=str(own) if own.exists() else "")
    yield OPEN, lambda: _whole(open_split(settings, "train"))
    if form == "results":
        files = root / "train" / "_annotations.coco.json", root / fuzz_sets.RESULTS
        yield "score", lambda: scores.score_files(*files)
        return
    if random.random() < 0.3:
        yield "recognise", lambda: str(recognise(root))
    yield "open val", lambda: _whole(open_split(settings, "val"))
    yield "open all", lambda: _whole(open_split(settings, "all"))
    to = random.choice(("coco", "coco", *FORMATS))
    yield f"convert to {to}", lambda: list(convert_data(settings, to, dest / "converted"))
    yield "check", lambda: _check(settings, random, dest / "repaired")


def _through(door: Callable[[], Any], where: str, problems: list[str], name: str) -> bool:
    """Whether something came through. Errors of other kinds go on."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            door()
            refusal = None
        except (ValueError, OSError) as error:
            refusal = error
            if _is_bad(error, where):
                problems.append(f"{name}: {traceback.format_exc()}")
    problems += [
        f"{name}: warned of {one.category.__name__}: {one.message} ({one.filename}:{one.lineno})"
        for one in said
        if not issubclass(one.category, Note)
        and where not in str(one.message)
        and "PIL" not in Path(one.filename).parts
    ]
    return refusal is None


def _is_bad(error: Exception, where: str) -> bool:
    text = str(error)
    is_plain = type(error) is ValueError or isinstance(error, OSError)
    is_named = where in text or f"{SET}." in text  # what an archive holds is called by its name
    return not is_plain or not is_named or "\n" in text or len(text) > LONGEST or "[Errno" in text


def _whole(data: Dataset) -> None:
    """Raise AssertionError for data that training would stumble over."""
    assert summary(data)
    assert len(data.image_ids)
    assert (data.sizes > 0).all(), data.sizes
    assert np.isfinite(data.boxes[data.learnt]).all(), data.boxes
    assert np.isfinite(data.boxes_xywh()[data.learnt]).all(), data.boxes_xywh()
    assert not np.isinf(data.areas).any(), data.areas
    assert np.isfinite(data.rings.points).all(), "points"
    assert ((data.labels > 0) & (data.labels <= len(data.category_ids))).all(), data.labels
    assert len(set(data.category_names)) == len(data.category_names), data.category_names
    for image, (height, width) in enumerate(data.sizes.tolist()[:8]):
        for index in range(*data.objects(image).indices(len(data.labels)))[:8]:
            bitmap_from_rings(data.outline(index), window_of(data.outline(index), height, width))


def _check(settings: Data, random: Random, dest: Path) -> None:
    found = health.look(settings, deep=random.random() < 0.3)
    faults = entries(found)
    assert health.as_json("set", found, faults)
    for line in health.table(faults).splitlines():
        assert len(line) < LONGEST, line
    for data in found.datasets.values():
        _whole(data)
    if not any(len(data.labels) for data in found.datasets.values()) or random.random() < 0.5:
        return
    write_repaired(found, dest)
    again = health.look(Data(dataset_dir=str(dest)), deep=False)
    assert again.datasets.keys() == found.datasets.keys(), again.findings


def limit_memory(num_bytes: int) -> None:
    """Let this process write to no more memory than this."""
    import resource  # which Windows lacks

    resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))
