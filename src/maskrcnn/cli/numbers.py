"""`maskrcnn data stats`: what is measured, and how it is printed."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from maskrcnn.config import Data
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.split import Split, open_split
from maskrcnn.data.statistics import Statistics, statistics
from maskrcnn.report.numbers import sample_colours
from maskrcnn.sentences import printable


class Measured(NamedTuple):
    """Numbers of splits, and what is said of them."""

    splits: dict[str, Statistics]
    remarks: list[str]
    """What the readers understood, each sentence once."""
    problems: list[str]
    """A sentence for each thing that cannot be read."""


def measure(settings: Data, splits: Iterable[Split], sample: int) -> Measured:
    """Numbers of each split that can be read.

    sample   images of each split whose colours are looked at
    Where none can be read, all images are measured as one: few cannot be divided. Raises OSError or ValueError where
    that cannot be read either.
    """
    found = Measured({}, [], [])
    for split in splits:
        try:
            _add(found, split, open_split(settings, split), sample)
        except (OSError, ValueError) as error:
            found.problems.append(f"{split}: {error}")
    return found if found.splits else _measure_all(settings, sample)


def _measure_all(settings: Data, sample: int) -> Measured:
    found = Measured({}, [], [])
    _add(found, "all", open_split(settings, "all"), sample)
    return found


def _add(found: Measured, split: Split, data: Dataset, sample: int) -> None:
    colours, failures = sample_colours(data, sample)
    found.splits[split] = statistics(data, colours)
    found.remarks.extend(remark for remark in data.remarks if remark not in found.remarks)
    if failures:
        told = f"{len(failures)} of the sampled images cannot be read, the first: {failures[0]}"
        found.problems.append(f"{split}: {told}")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text, a line for each row: the first column at the left, the others at the right.

    >>> aligned([["", "train"], ["images", "7"]]).splitlines()
    ['        train', 'images      7']
    >>> aligned([["cat\\nfake", "7"]])
    'cat\\\\nfake  7'
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        for first, *rest in rows
    )
    return "\n".join("  ".join(line) for line in lines)
