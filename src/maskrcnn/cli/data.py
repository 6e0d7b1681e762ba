"""`maskrcnn data`: check, shapes, show."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from maskrcnn.cli.options import DataOverrides, DataSet, writable

if TYPE_CHECKING:
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
    from maskrcnn.cli.annotations import draw, find_data
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

        print(f"page in {write_page(tell.page_path(page), source, health, found, draw)}", file=sys.stderr)
    if fix is not None:
        from maskrcnn.data.health.repaired_copy import write_repaired

        for line in write_repaired(health, fix):
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
    out: Annotated[Path, Option(help="Where the drawings go.")] = Path("runs/data"),
    split: Annotated[str, Option(metavar="train|val", help="Which images.")] = "train",
    count: Annotated[int, Option(min=1, help="Images, spread over the split.")] = 12,
) -> None:
    """Draw the annotations of some images."""
    if split not in SPLITS:
        raise ValueError(f"--split: expected train or val, got {split!r}")
    writable(out)
    from maskrcnn.cli.annotations import draw, find_data
    from maskrcnn.data.split import open_split

    data = open_split(find_data(source, overrides or []), split)
    out.mkdir(parents=True, exist_ok=True)
    num_images = len(data.file_names)
    for index in range(0, num_images, -(-num_images // count)):
        target = out / f"{Path(data.file_names[index]).stem}.png"
        draw(data, index).save(target)
        print(target)
