"""`maskrcnn data`: check, shapes, show, stats."""

import sys
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer import Argument, Option

from maskrcnn.cli.options import DataOverrides, DataSet, writable
from maskrcnn.sentences import counted

if TYPE_CHECKING:
    from maskrcnn.config import Data
    from maskrcnn.data.dataset import Dataset
    from maskrcnn.data.split import Split

SPLITS: tuple["Split", ...] = ("train", "val")


def check(
    source: DataSet,
    overrides: DataOverrides = None,
    deep: Annotated[bool, Option("--deep", help="Decode all images too, and look for those nearly the same.")] = False,
    strict: Annotated[bool, Option("--strict", help="Fail on warnings, too.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON for programs.")] = False,
    page: Annotated[Path | None, Option(metavar="FILE", help="Write a page with images of what is wrong.")] = None,
    fix: Annotated[Path | None, Option(metavar="DEST", help="Write a repaired copy, and a list of repairs.")] = None,
) -> None:
    """Say what is in both splits and what is wrong, before anything is learnt from them.

    Fails where training or evaluation would refuse something.
    """
    for folder in (page, fix):
        if folder is not None:
            writable(folder)
    from maskrcnn.cli import health as tell
    from maskrcnn.cli.annotations import find_data
    from maskrcnn.data.health.check import entries

    settings = find_data(source, overrides or [])
    health = tell.look(settings, deep=deep)
    found = entries(health)
    if as_json:
        print(tell.as_json(source, health, found))
    else:
        tell.say(settings, health, found)
    if page is not None:
        from maskrcnn.report.health import write_page

        print(f"page in {write_page(tell.page_path(page), source, health, found)}", file=sys.stderr)
    if fix is not None:
        from maskrcnn.data.health.repaired_copy import why_no_copy, write_repaired

        problem = why_no_copy(health)
        for line in [f"error: {problem}"] if problem else write_repaired(health, fix):
            print(line, file=sys.stderr)
    code = tell.exit_code(found, strict=strict)
    if code:
        raise typer.Exit(code)


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
    augmented: Annotated[bool, Option("--augmented", help="Draw images as training sees them.")] = False,
    draws: Annotated[int, Option(min=1, help="How often each image is drawn, with --augmented.")] = 4,
) -> None:
    """Draw the annotations of some images: a page to leaf through, and contact sheets."""
    part = _split(split)
    writable(out)
    from maskrcnn.cli.annotations import find_data, is_recipe
    from maskrcnn.cli.health import Meter, said
    from maskrcnn.data.tiles import cut_data
    from maskrcnn.report.album import write_album
    from maskrcnn.report.sheets import spread_evenly

    settings = find_data(source, overrides or [])
    data = _to_show(settings, part)
    if augmented:
        settings = _measured(settings if is_recipe(source) else _planned(source, overrides or [], data), data)
        data = cut_data(data, settings)
    for remark in dict.fromkeys((*said(settings), *data.remarks)):
        print(remark)
    images = spread_evenly(len(data.image_ids), count or len(data.image_ids))
    drawn = (settings, draws) if augmented else None
    tell = partial(Meter(), "drawn")
    album = write_album(data, images, out, title=source, split=split, augmented=drawn, tell=tell)
    for told in (*album.remarks, *album.sheets, album.page):
        print(told)
    if album.failures:
        num_failed = len(set(album.failures))  # one that cannot be read fails in each of its draws
        raise ValueError(f"{counted(num_failed, 'images')} could not be drawn, the first: {album.failures[0]}")


def _planned(source: str, overrides: list[str], data: "Dataset") -> "Data":
    """Settings of a folder, with the levels and bands that a plan to train on it would have."""
    from maskrcnn.config import Backbone
    from maskrcnn.recipes import read_recipe
    from maskrcnn.recipes.adopt import with_settings
    from maskrcnn.recipes.read import read_overrides
    from maskrcnn.train.pixels import choose_pixels

    given = dict(read_overrides(overrides).settings)
    chosen = {name: value for name, value, _ in choose_pixels(data, Backbone(), given) if name not in given}
    return with_settings(read_recipe("coco", [f"data.dataset_dir={source}", *overrides]), chosen, "plan").data


def _measured(settings: "Data", data: "Dataset") -> "Data":
    """The settings with what they leave to be measured over the images, as a run would begin."""
    from maskrcnn.config import Recipe
    from maskrcnn.train.pixels import with_measured

    return with_measured(Recipe(data=settings), data, print).data


def _to_show(settings: "Data", part: "Split") -> "Dataset":
    """A split, and all images in the place of those to train on where these cannot be told: one cannot be divided."""
    from maskrcnn.data.split import open_split

    try:
        return open_split(settings, part)
    except ValueError:
        if part != "train":
            raise
        return open_split(settings, "all")


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
    part = _split(split)
    if not json:
        writable(out)
    from maskrcnn.cli.annotations import find_data
    from maskrcnn.cli.health import said
    from maskrcnn.cli.numbers import aligned, measure
    from maskrcnn.report.numbers import as_json, as_table, write_page

    settings = find_data(source, overrides or [])
    found = measure(settings, SPLITS if part == "all" else [part], sample)
    if json:
        print(dumps({name: as_json(told) for name, told in found.splits.items()}, indent=1, ensure_ascii=False))
    else:
        for remark in dict.fromkeys((*said(settings), *found.remarks)):
            print(remark)
        print(aligned(as_table(found.splits)))
        print(write_page(found.splits, out, title=source, sample=sample))
    for problem in found.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if found.problems:
        raise typer.Exit(1)
