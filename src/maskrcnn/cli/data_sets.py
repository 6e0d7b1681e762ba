"""`maskrcnn data convert`, `plan` and `split`: from a data set to another, to a recipe, to two lists of images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from maskrcnn.cli.options import DataOverrides, DataSet, writable
from maskrcnn.run_folder import PLAN, SPLIT
from maskrcnn.sentences import typed

if TYPE_CHECKING:
    from maskrcnn.data.dataset import Dataset

Target = Literal[
    "coco", "lvis", "yolo", "labelme", "cvat", "via", "voc", "cityscapes", "dsb2018", "instances", "shards"
]


def convert(
    source: DataSet,
    dest: Annotated[Path, Argument(metavar="DEST", help="The folder to write; new or empty.")],
    overrides: DataOverrides = None,
    to: Annotated[
        Target,
        Option(
            metavar="FORMAT",
            help="coco, lvis, yolo, labelme, cvat, via, voc, cityscapes, dsb2018, instances or shards.",
        ),
    ] = "coco",
    shard_size: Annotated[
        int | None, Option(min=1, metavar="IMAGES", help="Images of a tar with --to shards; 1000 unless given.")
    ] = None,
) -> None:
    """Write a data set in another format.

    Images come along. Further data sets are joined to it by data.also=[DIR, ...], classes chosen and renamed by
    data.classes=[cat, pet=dog].
    """
    writable(dest)
    from maskrcnn.cli.annotations import find_data
    from maskrcnn.data.convert import convert_data

    settings = find_data(source, overrides or [])
    for sentence in convert_data(settings, to, dest, shard_size):
        print(sentence, flush=True)


def plan(
    source: Annotated[str, Argument(metavar="DIR", help="A folder of images and annotations.")],
    overrides: DataOverrides = None,
    out: Annotated[Path, Option(metavar="FILE", help="The recipe to write.")] = Path(PLAN),
) -> None:
    """Write the recipe for a folder of data.

    It is the one that `maskrcnn train DIR` makes for the data and this machine, each choice with its reason.
    """
    from maskrcnn.cli.planning import make_plan, write_plan

    if out.exists():
        raise ValueError(f"{out} is there already; choose another {typed('--out')}")
    _, text = make_plan(source, overrides or [], out)
    write_plan(out, text)
    print(f"{text}\nwritten to {out}; train with maskrcnn train {out}")


def split(
    source: DataSet,
    overrides: DataOverrides = None,
    out: Annotated[Path, Option(metavar="FILE", help="The file that lists the images of each split.")] = Path(SPLIT),
) -> None:
    """Set images apart for validation.

    These are data.val_share of all, each class in proportion, images that are nearly the same together.
    """
    from maskrcnn.cli.annotations import find_data
    from maskrcnn.data.division import write_split_file
    from maskrcnn.data.split import divide_all

    if out.exists():
        raise ValueError(f"{out} is there already; choose another {typed('--out')}")
    settings = find_data(source, overrides or [])
    training, validation = divide_all(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_split_file(out, training, validation, settings.val_share, settings.split_seed)
    print(_table(training, validation))
    print(f"written to {out}; use it with data.split_file={out}")


def _table(training: "Dataset", validation: "Dataset") -> str:
    """Images and objects of each class in both splits."""
    import numpy as np

    from maskrcnn.cli.numbers import aligned

    rows = [("", "train", "val"), ("images", str(len(training.image_ids)), str(len(validation.image_ids)))]
    counts = [np.bincount(data.labels, minlength=len(data.category_ids) + 1)[1:] for data in (training, validation)]
    rows += [(name, str(a), str(b)) for name, a, b in zip(training.category_names, *counts, strict=True)]
    return aligned(rows)
