"""`maskrcnn data`: check, shapes, show, stats."""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer import Argument, Option

from maskrcnn.cli.options import DataOverrides, DataSet, writable

if TYPE_CHECKING:
    from maskrcnn.data.split import Split

SPLITS: tuple["Split", ...] = ("train", "val")


def check(source: DataSet, overrides: DataOverrides = None) -> None:
    """Read both splits and say what is in them and what is wrong."""
    from maskrcnn.cli.annotations import describe_split, find_data

    settings = find_data(source, overrides or [])
    problems = []
    for split in SPLITS:
        try:
            print(describe_split(settings, split), flush=True)
        except (ValueError, OSError) as error:
            problems.append(f"{split}: {error}")
    for problem in problems:
        print(f"problem: {problem}")
    if problems:
        raise typer.Exit(1)


def shapes(
    folder: Annotated[Path, Argument(metavar="DIR", help="A folder that is new, empty, or holds the same shapes.")],
    num_train: Annotated[int, Option(help="Training images.")] = 2000,
    num_val: Annotated[int, Option(help="Validation images.")] = 120,
    seed: Annotated[int, Option(help="Another seed draws other images.")] = 0,
    side: Annotated[int, Option(help="Pixels of the longer side.")] = 128,
) -> None:
    """Draw the built-in data set of shapes."""
    writable(folder)
    from maskrcnn.data.shapes import generate

    print(f"shapes in {generate(folder, num_train=num_train, num_val=num_val, seed=seed, side=side)}")


def show(
    source: DataSet,
    overrides: DataOverrides = None,
    out: Annotated[Path, Option(help="Where the page, its pictures and the contact sheets go.")] = Path("runs/data"),
    split: Annotated[str, Option(metavar="train|val|all", help="Which images.")] = "train",
    count: Annotated[int, Option(min=0, help="Images, spread over the split; 0 takes all.")] = 12,
) -> None:
    """Draw the annotations of some images: a page to leaf through, and contact sheets."""
    part = _split(split)
    writable(out)
    from maskrcnn.cli.annotations import find_data, progress
    from maskrcnn.data.split import open_split
    from maskrcnn.fonts import note_unreadable
    from maskrcnn.report.album import write_album
    from maskrcnn.report.sheets import spread_evenly

    data = open_split(find_data(source, overrides or []), part)
    images = spread_evenly(len(data.image_ids), count or len(data.image_ids))
    note_unreadable([*data.category_names, *(data.file_names[image] for image in images)])
    album = write_album(data, images, out, title=source, split=split, tell=progress("drawn"))
    for path in (*album.sheets, album.page):
        print(path)
    if album.failures:
        number = "1 image" if len(album.failures) == 1 else f"{len(album.failures)} images"
        raise ValueError(f"{number} could not be drawn, the first: {album.failures[0]}")


def _split(name: str) -> "Split":
    if name not in ("train", "val", "all"):
        raise ValueError(f"--split: expected train, val or all, got {name!r}")
    return cast("Split", name)


def stats(
    source: DataSet,
    overrides: DataOverrides = None,
    out: Annotated[Path, Option(help="Where the page goes.")] = Path("runs/data"),
    split: Annotated[str, Option(metavar="train|val|all", help="Which images; all shows both side by side.")] = "all",
    sample: Annotated[int, Option(min=0, help="Images of each split whose colours are looked at.")] = 64,
    json: Annotated[bool, Option("--json", help="Print the numbers as JSON and write no page.")] = False,
) -> None:
    """Say what the images, objects and classes are like: a table, and a page with charts."""
    _split(split)
    if not json:
        writable(out)
    from maskrcnn.cli.annotations import aligned, find_data, measure
    from maskrcnn.report.numbers import as_json, as_table, write_page

    told, problems = measure(find_data(source, overrides or []), SPLITS if split == "all" else [_split(split)], sample)
    if json:
        print(dumps({name: as_json(one) for name, one in told.items()}, indent=1, ensure_ascii=False))
    else:
        print(aligned(as_table(told)))
        print(write_page(told, out, title=source, sample=sample))
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)
