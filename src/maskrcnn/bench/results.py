"""Tables of numbers, on the screen and in files that later benchmarks of the same day add to."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct, field, json

from maskrcnn.bench.machine import Facts
from maskrcnn.files import atomic_write

Cell = str | int | float | None
Row = dict[str, Cell]

DASH = "\N{EN DASH}"
IN_REPOSITORY, ELSEWHERE = Path("benchmarks/results"), Path("runs/bench")


class Section(Struct):
    """One table."""

    key: str
    """Name of the section: a later one of the same key replaces it."""
    title: str
    facts: Facts
    """All that decided the numbers."""
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


class Results(Struct):
    """All tables of one device and day."""

    device: str
    date: str
    sections: list[Section] = field(default_factory=list)


def default_folder() -> Path:
    """The repository's results when run from there."""
    return IN_REPOSITORY if IN_REPOSITORY.is_dir() else ELSEWHERE


def add(folder: Path, sections: Sequence[Section]) -> tuple[Path, Path]:
    """Merge tables into `<device>-<date>.json` and write `.md` anew; returns both paths.

    Files are replaced whole: a reader never sees half of one.
    """
    machine = sections[0].facts
    stem = f"{slug(machine['device'])}-{machine['date']}"
    data, text = folder / f"{stem}.json", folder / f"{stem}.md"
    if data.is_file():
        results = json.decode(data.read_bytes(), type=Results)
    else:
        results = Results(machine["device"], machine["date"])
    merged = {section.key: section for section in (*results.sections, *sections)}
    results = Results(results.device, results.date, list(merged.values()))
    folder.mkdir(parents=True, exist_ok=True)
    contents = {data: json.format(json.encode(results), indent=1) + b"\n", text: markdown(results).encode()}
    for path, content in contents.items():
        with atomic_write(path) as draft:
            draft.write_bytes(content)
    return data, text


def slug(name: str) -> str:
    """A name as part of a file's.

    >>> slug("NVIDIA H100 80GB HBM3"), slug("AMD EPYC(TM) 9B45 @ 2.5GHz")
    ('nvidia-h100-80gb-hbm3', 'amd-epyc-tm-9b45-2-5ghz')
    """
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def markdown(results: Results) -> str:
    """The whole file in Markdown."""
    parts = [f"# {results.device}, {results.date}", *(described(section) for section in results.sections)]
    return "\n\n".join(parts) + "\n"


def described(section: Section) -> str:
    """Title, facts, table and notes, in Markdown that reads well as it is."""
    known = " \N{MIDDLE DOT} ".join(f"{name} {value}" for name, value in section.facts.items())
    notes = "\n".join(f"- {note}" for note in section.notes)
    return "\n\n".join(part for part in (f"## {section.title}", known, table(section.rows), notes) if part)


def table(rows: Sequence[Row]) -> str:
    """Columns in the order in which rows first name them, the first to the left, numbers to the right."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(line, widths) for line in (lines[0], rule, *lines[1:]))


def cell(value: Cell) -> str:
    """A number with three digits that count.

    >>> [cell(value) for value in (None, "x", 1234567, 0.012345, 4.5678, 45.678, 1234.5)]
    ['\N{EN DASH}', 'x', '1,234,567', '0.0123', '4.57', '45.7', '1,234']
    """
    if value is None:
        return DASH
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]) + " |"
