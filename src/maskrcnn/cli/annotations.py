"""A data set as a person wants to see it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from maskrcnn.config import Data
from maskrcnn.data.split import Split, open_split
from maskrcnn.data.statistics import Statistics, statistics
from maskrcnn.recipes import read_recipe
from maskrcnn.report.numbers import sample_colours


def find_data(source: str, overrides: Sequence[str]) -> Data:
    """The data settings of a recipe; of a folder those of the COCO2017 layout."""
    if is_recipe(source):
        return read_recipe(source, overrides).data
    return read_recipe("coco", [f"data.dataset_dir={source}", *overrides]).data


def is_recipe(source: str) -> bool:
    """Whether `data check demo` means the recipe: a folder that is there comes first, then names of recipes."""
    return source.endswith((".yml", ".yaml")) or (Path(source).name == source and not Path(source).is_dir())


def measure(settings: Data, splits: Iterable[Split], sample: int) -> tuple[dict[str, Statistics], list[str]]:
    """Numbers of each split that can be read, and a sentence for each thing that cannot.

    sample   images of each split whose colours are looked at
    Raises ValueError where no split can be read.
    """
    told: dict[str, Statistics] = {}
    problems = []
    for split in splits:
        try:
            data = open_split(settings, split)
        except (OSError, ValueError) as error:
            problems.append(f"{split}: {error}")
            continue
        colours, failures = sample_colours(data, sample)
        told[split] = statistics(data, colours)
        if failures:
            problems.append(f"{split}: {len(failures)} of the sampled images cannot be read, the first: {failures[0]}")
    if not told:
        raise ValueError(problems[0])
    return told, problems


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column at the left, the others at the right.

    >>> aligned([["", "train"], ["images", "7"]]).splitlines()
    ['        train', 'images      7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        for first, *rest in rows
    )
    return "\n".join("  ".join(line) for line in lines)
