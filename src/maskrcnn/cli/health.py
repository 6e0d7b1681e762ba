"""`maskrcnn data check`: what it says, on a terminal and as JSON."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Data
from maskrcnn.data.classes import NOT_THERE, choose_classes, choose_known, unite_classes
from maskrcnn.data.dataset import Dataset, contents
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.health.check import Entry, Health, examine
from maskrcnn.data.health.classes import num_objects
from maskrcnn.data.split import find_parts, is_named, read_part
from maskrcnn.files import by_archive
from maskrcnn.sentences import counted, in_lines, some_of, typed
from maskrcnn.status_line import StatusLine
from maskrcnn.terminal import bare

COLOURS = {Severity.REFUSED: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
PLURALS = {Severity.REFUSED: "refused", Severity.WARNING: "warnings", Severity.NOTE: "notes"}
INDENT = " " * 9


def look(settings: Data, *, deep: bool) -> Health:
    """Read the chosen classes of both splits, whatever is wrong with them, and examine them.

    Raises ValueError for a class that is chosen and not there.
    """
    datasets: dict[str, Dataset] = {}
    reported: dict[str, Faults] = {}
    problems: dict[str, str] = {}
    for split in ("train", "val"):
        reported[split] = Faults()
        try:
            data = read_part(settings, split, reported[split])
        except (OSError, ValueError) as error:
            problems[split] = by_archive(str(error))
            continue
        if data is None:
            problems[split] = ""
        else:
            datasets[split] = data
    return examine(
        _chosen(datasets, settings, reported, problems),
        reported,
        problems,
        deep=deep,
        united=not is_named(settings),
        max_rowsize=settings.max_rowsize,
        progress=Meter(),
    )


def _chosen(
    datasets: dict[str, Dataset], settings: Data, reported: Mapping[str, Faults], problems: dict[str, str]
) -> dict[str, Dataset]:
    """The chosen classes of splits, which training unites by name first where it recognised them.

    A class that a split lacks is reported, since another split may have it, also one that cannot be read.
    """
    if not settings.classes or not datasets:
        return datasets
    splits = list(datasets.values()) if is_named(settings) else unite_classes(list(datasets.values()))
    found = {name: choose_known(data, settings.classes) for name, data in zip(datasets, splits, strict=True)}
    nowhere = set.intersection(*(set(absent) for _, absent in found.values()))
    if nowhere and not any(problems.values()):
        choose_classes(splits[0], sorted(nowhere))  # raises
    for name, (data, absent) in found.items():
        if data is None:
            problems[name] = f"{datasets[name].annotations} has none of the chosen classes: {some_of(absent)}"
        else:
            reported[name].add(NOT_THERE, absent)
    return {name: data for name, (data, _) in found.items() if data is not None}


def said(settings: Data) -> tuple[str, ...]:
    """What the data were recognised as, one sentence each; nothing where they lie where the settings say."""
    try:
        return () if is_named(settings) else find_parts(settings).said
    except (OSError, ValueError):
        return ()


def say(settings: Data, health: Health, found: Sequence[Entry]) -> None:
    """Print what each split holds, and what is wrong."""
    for line in (*said(settings), *(contents(data) for data in health.datasets.values())):
        print(line)
    if found and sys.stdout.isatty():
        _print_coloured(found)
    elif found:
        print("\n" + table(found))
    print("\n" + verdict(found))
    if not health.is_deep:
        print(f"only headers were read; {typed('--deep')} decodes all images, and looks for those nearly the same")


def table(found: Sequence[Entry]) -> str:
    """The faults: how bad, which, how many in which split; below that who has it, and what mends it."""
    size = max((len(one.kind.name) for one in found), default=0)
    lines = []
    for one in found:
        lines.append(f"{one.kind.severity:<8} {one.kind.name:<{size}}  {_where(one)}")
        lines += [INDENT + line for line in _details(one)]
    return "\n".join(lines)


def _where(one: Entry) -> str:
    return ", ".join(f"{split} {finding.count}" for split, finding in one.by_split.items())


def _print_coloured(found: Sequence[Entry]) -> None:
    """The same in columns, on a terminal."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    rows = Table("", "fault", "where", Column("what", overflow="fold"), box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for one in found:
        severity = Text(one.kind.severity, COLOURS[one.kind.severity])
        rows.add_row(severity, Text(one.kind.name), Text(_where(one)), Text(in_lines("\n".join(_details(one)))))
    Console(file=bare(sys.stdout), highlight=False).print("", rows)


def _details(one: Entry) -> Iterator[str]:
    yield str(one)
    for split, finding in one.by_split.items():
        if finding.examples and list(finding.examples) != [split]:
            rest = [*finding.examples, *[""] * (finding.count - len(finding.examples))]
            yield f"{split}: {some_of(rest, len(finding.examples))}"
    if one.sentence:
        yield one.sentence
    if one.kind.repair:
        yield f"{typed('--fix')}: {one.kind.repair}"


def verdict(found: Sequence[Entry]) -> str:
    """How many kinds of fault there are, by how bad they are."""
    if not found:
        return "nothing is wrong"
    counts = {severity: sum(one.kind.severity is severity for one in found) for severity in reversed(Severity)}
    told = "kinds of fault: " + ", ".join(counted(count, PLURALS[severity]) for severity, count in counts.items())
    repairable = sum(bool(one.kind.repair) for one in found)
    return f"{told}; {typed('--fix DEST')} repairs {repairable} of them in a copy" if repairable else told


def as_json(source: str, health: Health, found: Sequence[Entry]) -> str:
    """The same for programs; keys stay as they are in later versions."""
    splits = {split: _split(data) for split, data in health.datasets.items()}
    counts = {str(severity): sum(one.kind.severity is severity for one in found) for severity in reversed(Severity)}
    faults = [_fault(one) for one in found]
    content = {"source": source, "deep": health.is_deep, "splits": splits, "kinds": counts, "faults": faults}
    return json.dumps(content, ensure_ascii=False, indent=1)


def _split(data: Dataset) -> dict[str, Any]:
    named = zip(data.category_ids, data.category_names, num_objects(data).tolist(), strict=True)
    return {
        "annotations": str(data.annotations),
        "images_folder": str(data.images),
        "images": len(data.image_ids),
        "objects": len(data.labels),
        "crowd_regions": int(data.crowd.sum()),
        "categories": [{"id": id, "name": name, "objects": count} for id, name, count in named],
    }


def _fault(one: Entry) -> dict[str, Any]:
    return {
        "kind": one.kind.name,
        "severity": str(one.kind.severity),
        "count": one.count,
        "noun": one.kind.noun,
        "claim": one.kind.claim,
        "splits": {split: finding.count for split, finding in one.by_split.items()},
        "examples": {split: list(finding.examples) for split, finding in one.by_split.items()},
        "sentence": one.sentence,
        "repair": one.kind.repair,
    }


class Meter:
    """Progress over images on stderr."""

    def __init__(self) -> None:
        self._line = StatusLine(0.2)

    def __call__(self, doing: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total:
            self._line.clear()
        elif self._line.is_due(now):
            self._line.say(f"{doing}: {done} of {total} images", now)


def exit_code(found: Sequence[Entry], *, strict: bool) -> int:
    """1 where something is refused, or, if strict, warned of; else 0."""
    bad = {Severity.REFUSED, Severity.WARNING} if strict else {Severity.REFUSED}
    return int(any(one.kind.severity in bad for one in found))


def page_path(where: Path) -> Path:
    """The file of the page: `check.html` in a folder."""
    return where if where.suffix.lower() in (".html", ".htm") else where / "check.html"
