"""Annotated images to leaf through: one page, pictures beside it, contact sheets."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from maskrcnn.config import Data
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.statistics import SIZES, object_areas, size_classes
from maskrcnn.files import DiskFull, atomic_write
from maskrcnn.fonts import note_unreadable
from maskrcnn.picture import save_picture
from maskrcnn.report.annotated import Shown, annotated, draw_shown, read_pixels
from maskrcnn.report.augmented import Draws
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


_Told = dict[str, Any]
"""`size`, (width, height), and `objects`, as `_counts`."""


class _Subject(NamedTuple):
    """What a picture shows."""

    name: str
    file: str
    see: Callable[[Oddities], Shown]
    """Raises OSError or ValueError where it cannot be read."""
    known: _Told | None
    """What can be told of it without reading it."""


def write_album(
    data: Dataset,
    images: Sequence[int],
    folder: Path,
    *,
    title: str,
    split: str,
    augmented: tuple[Data, int] | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Album:
    """Draw some images with their objects, and write a page that shows them.

    images      by index; letters that no font has are told of, see `note_unreadable`
    title       what the data set is called
    split       which part of it this is; it begins the names of the pictures, and no two images share one
    augmented   settings of training, and how often each image is drawn as it sees them; None: images as they are
    tell        is given the number of pictures that are done, and of all, after each
    An image that cannot be read has its sentence in the place of its picture.
    """
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    subjects = list(_subjects(data, images, split, augmented))
    sheets, on_sheets = Sheets(folder), chosen_for_sheets(len(subjects))
    note_unreadable([*data.category_names, *(subjects[number].name for number in sorted(on_sheets))])
    entries, oddities = [], Oddities()
    for number, subject in enumerate(subjects):
        entry: dict[str, Any] = {
            "name": subject.name,
            "file": f"{PICTURES}/{subject.file}",
            "failure": "",
            "size": [0, 0],
            "objects": [],
        }
        entry |= subject.known or {}
        try:
            shown = subject.see(oddities)
            entry |= subject.known or _describe_shown(shown)
            _draw(shown, data.category_names, entry, folder, sheets if number in on_sheets else None)
        except DiskFull:
            raise
        except (OSError, ValueError) as error:
            entry["failure"] = str(error)
        entries.append(entry)
        tell(number + 1, len(subjects))
    sheets.save()
    page = render(
        "album.html.jinja",
        title=title,
        split=split,
        number=len(images),
        total=len(data.image_ids),
        draws=0 if augmented is None else augmented[1],
        album={"classes": data.category_names, "images": entries},
        sizes=list(zip(SIZES, BOUNDS, strict=True)),
        sheets=[sheet.name for sheet in sheets.paths],
    )
    with atomic_write(folder / PAGE) as draft:
        draft.write_text(page, encoding="utf-8")
    failures = [str(entry["failure"]) for entry in entries if entry["failure"]]
    return Album(folder / PAGE, sheets.paths, failures, list(oddities.notes()))


def picture_name(data: Dataset, image: int, split: str) -> str:
    """The name of an image's picture: a number that no other has, and what can be kept of its own name."""
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", Path(data.file_names[image]).stem)[:LONGEST_STEM].strip("-.")
    return f"{split}-{image:06d}{'-' * bool(stem)}{stem}.jpg"


def _subjects(
    data: Dataset, images: Sequence[int], split: str, augmented: tuple[Data, int] | None
) -> Iterator[_Subject]:
    """Each image as it is, or each of its draws."""
    if augmented is None:
        areas = object_areas(data)
        for image in images:
            see = partial(_as_it_is, data, image)
            yield _Subject(data.file_names[image], picture_name(data, image, split), see, _describe(data, image, areas))
        return
    settings, count = augmented
    draws = Draws(data, settings, count)
    for image in images:
        for draw in range(count):
            name, file = f"{data.file_names[image]} ({draw + 1})", picture_name(data, image, f"{split}-draw{draw + 1}")
            yield _Subject(name, file, partial(draws.see, image, draw), None)


def _as_it_is(data: Dataset, image: int, oddities: Oddities) -> Shown:
    return annotated(data, image, read_pixels(data, image, oddities))


def _draw(shown: Shown, names: Sequence[str], entry: dict[str, Any], folder: Path, sheets: Sheets | None) -> None:
    """Save an image's picture, and put it on the contact sheets."""
    save_picture(draw_shown(shown, names), folder / entry["file"], quality=90)
    if sheets is not None:
        sheets.add(draw_shown(shown, names, CELL), entry["name"], _caption(entry))


def _describe(data: Dataset, image: int, areas: Float64[np.ndarray, " O"]) -> _Told:
    """What the page knows of an image as it is."""
    chosen = data.objects(image)
    drawn = data.learnt[chosen]
    counts = _counts(data.labels[chosen][drawn], size_classes(areas[chosen][drawn]))
    return {"size": data.sizes[image, ::-1].tolist(), "objects": counts}


def _describe_shown(shown: Shown) -> _Told:
    """What the page knows of an image that was augmented: its objects are as large as what is seen of them."""
    side = max(shown.size)
    areas = np.array([shown.mask(item, side, side).sum() for item in range(len(shown.labels))], np.float64)
    return {"size": [*shown.size[::-1]], "objects": _counts(shown.labels, size_classes(areas))}


def _counts(labels: Int64[np.ndarray, " n"], kinds: Int64[np.ndarray, " n"]) -> list[list[int]]:
    """[label, number of small, of medium and of large ones] of each class, in the order of labels."""
    classes, places = np.unique(labels, return_inverse=True)
    counts = np.bincount(3 * places + kinds, minlength=3 * len(classes)).reshape(-1, 3)
    return [[label, *row] for label, row in zip(classes.tolist(), counts.tolist(), strict=True)]


def _caption(entry: dict[str, Any]) -> str:
    width, height = entry["size"]
    count = sum(sum(row[1:]) for row in entry["objects"])
    return f"{width} x {height}, {count or 'no'} object{'s' * (count != 1)}"
