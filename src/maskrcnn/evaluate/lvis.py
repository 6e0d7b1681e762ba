"""What an annotation file of LVIS says besides COCO's fields: of which categories each image is annotated in full.

Source: Gupta et al. 2019, LVIS, section 3.
"""

import mmap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from maskrcnn.data.dataset import Dataset
from maskrcnn.sentences import Note

MARKS = "neg_category_ids", "not_exhaustive_category_ids"
"""Fields of LVIS's images; one of them is found in a file before anything is parsed."""
FREQUENCIES = "r", "c", "f"
"""Rare categories, in up to 10 images of the training set; common ones, in up to 100; frequent ones."""


class Federated(NamedTuple):
    """What is known of images and categories. Results of a category count in an image only if it has objects of it or
    is known to have none."""

    frequencies: dict[int, str]
    """Category id -> one of `FREQUENCIES`."""
    negative: dict[int, Sequence[int]]
    """Image id -> categories of which it has no object."""
    not_exhaustive: dict[int, Sequence[int]]
    """Image id -> categories of which some objects are not annotated: results that match none do not count."""


class _Image(Struct, gc=False):
    id: int
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class _Category(Struct, gc=False):
    id: int
    name: str
    frequency: Any = None


class _File(Struct):
    images: list[_Image]
    categories: list[_Category]


def federated_of(data: Dataset) -> Federated | None:
    """What the file of a data set says of its images; None where it is not LVIS's, or its ids are not the data set's.

    A note says it where the file has LVIS's fields but they cannot be read.
    """
    if data.stated_ids is not None or not _has_mark(data.annotations):
        return None
    try:
        file = msgspec.json.decode(data.annotations.read_bytes(), type=_File)
    except (msgspec.DecodeError, RecursionError) as error:
        warnings.warn(f"{data.annotations}: LVIS's scores are not computed, since {error}", Note, stacklevel=2)
        return None
    return _known(file, data)


def federated_in(content: dict[str, Any], data: Dataset) -> Federated | None:
    """The same of a file's content in Python's objects."""
    is_marked = any(mark in image for image in content["images"] for mark in MARKS)
    return _known(msgspec.convert(content, _File), data) if is_marked else None


def _has_mark(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return any(text.find(f'"{mark}"'.encode()) >= 0 for mark in MARKS)


def _known(file: _File, data: Dataset) -> Federated | None:
    """Nothing where classes were chosen, renamed or joined: LVIS's lists no longer fit them."""
    names = {category.id: category.name for category in file.categories}
    fits = names == dict(zip(data.category_ids, data.category_names, strict=True))
    fits &= all(category.frequency in FREQUENCIES for category in file.categories)
    if not fits or not {image.id for image in file.images}.issuperset(data.image_ids.tolist()):
        return None
    return Federated(
        {category.id: category.frequency for category in file.categories},
        {image.id: image.neg_category_ids for image in file.images},
        {image.id: image.not_exhaustive_category_ids for image in file.images},
    )
