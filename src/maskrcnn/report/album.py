"""Annotated images to leaf through: one page, pictures beside it, contact sheets."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.statistics import SIZES, object_areas, size_classes
from maskrcnn.files import atomic_write
from maskrcnn.fonts import note_unreadable
from maskrcnn.report.annotated import Pixels, draw_annotated, read_pixels
from maskrcnn.report.sheets import CELL, Sheets, chosen_for_sheets
from maskrcnn.report.template import render

PAGE, PICTURES = "index.html", "pictures"
"""Names in the folder of an album."""
BOUNDS = ("below 32²", "up to 96²", "above")
"""What the sizes of objects mean, in square pixels."""
LONGEST_STEM = 60
"""Letters of an image's name in that of its picture."""


class Album(NamedTuple):
    """What was written."""

    page: Path
    sheets: list[Path]
    failures: list[str]
    """A sentence for each image that cannot be read."""
    remarks: list[str]
    """What is odd about those that can."""


def write_album(
    data: Dataset,
    images: Sequence[int],
    folder: Path,
    *,
    title: str,
    split: str,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Album:
    """Draw some images with their objects, and write a page that shows them.

    images   by index; letters that no font has are told of, see `note_unreadable`
    title    what the data set is called
    split    which part of it this is; it begins the names of the pictures, and no two images share one
    tell     is given the number of images that are done, and of all, after each
    An image that cannot be read has its sentence in the place of its picture.
    """
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    sheets, on_sheets = Sheets(folder), chosen_for_sheets(len(images))
    note_unreadable([*data.category_names, *(data.file_names[images[number]] for number in sorted(on_sheets))])
    areas = object_areas(data)
    entries, oddities = [], Oddities()
    for number, image in enumerate(images):
        entry = _describe(data, image, areas, f"{PICTURES}/{picture_name(data, image, split)}")
        try:
            _draw(
                data, image, read_pixels(data, image, oddities), entry, folder, sheets if number in on_sheets else None
            )
        except (OSError, ValueError) as error:
            entry["failure"] = str(error)
        entries.append(entry)
        tell(number + 1, len(images))
    sheets.save()
    page = render(
        "album.html.jinja",
        title=title,
        split=split,
        total=len(data.image_ids),
        album={"classes": data.category_names, "images": entries},
        sizes=list(zip(SIZES, BOUNDS, strict=True)),
        sheets=[sheet.name for sheet in sheets.paths],
    )
    with atomic_write(folder / PAGE) as draft:
        draft.write_text(page, encoding="utf-8")
    failures = [entry["failure"] for entry in entries if entry["failure"]]
    return Album(folder / PAGE, sheets.paths, failures, list(oddities.notes()))


def picture_name(data: Dataset, image: int, split: str) -> str:
    """The name of an image's picture: a number that no other has, and what can be kept of its own name."""
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", Path(data.file_names[image]).stem)[:LONGEST_STEM].strip("-.")
    return f"{split}-{image:06d}{'-' * bool(stem)}{stem}.jpg"


def _draw(
    data: Dataset, image: int, pixels: Pixels, entry: dict[str, Any], folder: Path, sheets: Sheets | None
) -> None:
    """Save an image's picture, and put it on the contact sheets."""
    draw_annotated(data, image, pixels).save(folder / entry["file"], quality=90)
    if sheets is not None:
        sheets.add(draw_annotated(data, image, pixels, CELL), entry["name"], _caption(entry))


def _describe(data: Dataset, image: int, areas: Float64[np.ndarray, " O"], file: str) -> dict[str, Any]:
    """What the page knows of an image."""
    chosen = data.objects(image)
    drawn = data.learnt[chosen]
    return {
        "name": data.file_names[image],
        "size": data.sizes[image, ::-1].tolist(),
        "objects": _counts(data.labels[chosen][drawn], size_classes(areas[chosen][drawn])),
        "file": file,
        "failure": "",
    }


def _counts(labels: Int64[np.ndarray, " n"], kinds: Int64[np.ndarray, " n"]) -> list[list[int]]:
    """[label, number of small, of medium and of large ones] of each class, in the order of labels."""
    classes, places = np.unique(labels, return_inverse=True)
    counts = np.bincount(3 * places + kinds, minlength=3 * len(classes)).reshape(-1, 3)
    return [[label, *row] for label, row in zip(classes.tolist(), counts.tolist(), strict=True)]


def _caption(entry: dict[str, Any]) -> str:
    width, height = entry["size"]
    count = sum(sum(row[1:]) for row in entry["objects"])
    return f"{width} x {height}, {count or 'no'} object{'s' * (count != 1)}"
