"""`maskrcnn data`: check, shapes, show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
