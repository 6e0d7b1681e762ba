"""A data set as columns: one array per field, objects sorted by image, outlines packed.

A file of 860,000 objects becomes a few arrays that threads and processes share, instead of millions of Python objects.
Training, evaluation and drawing see these columns and no file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer, UInt8

from maskrcnn.files import by_archive
from maskrcnn.masks import Rings
from maskrcnn.sentences import counted, some_of
from maskrcnn.storage.location import Location


class Flag(IntFlag):
    """What is special about an object."""

    RUN_LENGTHS = 1
    """Its rings run along the borders of pixels and may be holes; otherwise each ring is a polygon, and they unite."""
    NO_OUTLINE = 2
    SHORT_POLYGON = 4
    OUTSIDE = 8


NOT_LEARNT = Flag.OUTSIDE
"""Flags of objects that training leaves out; evaluation counts them, as COCO does."""
MOST_TOLD = 12
"""Categories that a line lists; `maskrcnn data stats` has all."""
SENTENCES = {
    Flag.OUTSIDE: "have no box of positive width and height inside their image and are not learnt",
    Flag.SHORT_POLYGON: "have a polygon of fewer than three points, which is left out",
    Flag.NO_OUTLINE: "have a box and no outline; their box stands in for it",
}


class Parts(NamedTuple):
    """Which part of its file each image is."""

    windows: Int64[np.ndarray, "N 4"]
    """xyxy, whole pixels of the whole image, upright."""
    sizes: Int64[np.ndarray, "N 2"]
    """(height, width) of the whole image."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """One split. Images stand in the order of the file, objects in the order of their images."""

    annotations: Path
    """Where the columns come from; messages name it."""
    images: Path | Location
    """The folder of the images, on disk or in a store."""
    image_ids: Int64[np.ndarray, " N"]
    file_names: Sequence[str]
    """Below `images`."""
    sizes: Int64[np.ndarray, "N 2"]
    """(height, width) as the file states them: the frame of boxes and outlines."""
    first_object: Int64[np.ndarray, " N+1"]
    """Image i owns objects first_object[i] : first_object[i + 1]."""
    annotation_ids: Int64[np.ndarray, " O"]
    labels: Int64[np.ndarray, " O"]
    """1..K in ascending order of category ids."""
    boxes: Float32[np.ndarray, "O 4"]
    """xyxy."""
    areas: Float64[np.ndarray, " O"]
    """Square pixels as stated, by which evaluation tells small from large; NaN: measured when it is asked for."""
    crowd: Bool[np.ndarray, " O"]
    flags: UInt8[np.ndarray, " O"]
    """`Flag`."""
    rings: Rings
    first_ring: Int64[np.ndarray, " O+1"]
    """Object o owns rings first_ring[o] : first_ring[o + 1], at least one."""
    category_ids: tuple[int, ...]
    """Ascending: label k has category_ids[k - 1]."""
    category_names: tuple[str, ...]
    category_origins: tuple[tuple[tuple[int, str], ...], ...] = ()
    """(id, name) of the categories that each class stands for in its file; empty: those of its id and name."""
    stated_boxes: Float64[np.ndarray, "O 4"] | None = None
    """x, y, width, height to the last digit of the file, which scores depend on; None: those of `boxes`."""
    keypoints: Float32[np.ndarray, "O J 3"] | None = None
    """x, y, and 0 where it is not labelled, 1 where it is hidden, 2 where it is visible."""
    keypoint_names: tuple[str, ...] = ()
    attributes: Sequence[str] | None = None
    """What else an annotation says, as the text of a JSON object; empty where it says nothing."""
    parts: Parts | None = None
    """The part of its file that each image is; None: all of it."""
    stated_ids: Sequence[str] | None = None
    """Image ids as the source writes them, where they are not whole numbers of 64 bits; `image_ids` then count from
    1."""
    known_files: Sequence[str] = ()
    """Files below `images` that end as images do and are none of them, but in use or reported by the reader."""
    joined: tuple[Path, ...] = ()
    """Annotations of the data sets that were joined; empty for one that was read."""
    remarks: tuple[str, ...] = ()
    """What the reader understood although it was written otherwise, one sentence each."""

    def __post_init__(self) -> None:
        """Raise ValueError where columns contradict each other: whoever reads a format learns it here."""
        for fault in _faults(self):
            raise ValueError(f"{self.annotations}: {fault}")

    @property
    def learnt(self) -> Bool[np.ndarray, " O"]:
        """Objects that training sees, crowd regions among them."""
        return self.flags & NOT_LEARNT == 0

    @property
    def has_something_to_learn(self) -> bool:
        """Whether there is an object that is neither left out nor a crowd region."""
        return bool((self.learnt & ~self.crowd).any())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired or is left out, one sentence each."""
        return tuple(_notes(self))

    @property
    def origins(self) -> tuple[tuple[tuple[int, str], ...], ...]:
        """(id, name) of the categories that each class stands for in its file; none where the file has no such."""
        own = zip(self.category_ids, self.category_names, strict=True)
        return self.category_origins or tuple((one,) for one in own)

    @property
    def owners(self) -> Int64[np.ndarray, " O"]:
        """The index of each object's image."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.first_object))

    def objects(self, image: int) -> slice:
        """The objects of an image, by its index."""
        return slice(int(self.first_object[image]), int(self.first_object[image + 1]))

    def outline(self, index: int) -> Rings:
        """The rings of one object."""
        first, last = self.first_ring[index : index + 2].tolist()
        start, stop = self.rings.first[[first, last]].tolist()
        return Rings(self.rings.points[start:stop], self.rings.first[first : last + 1] - start)

    def boxes_xywh(self, chosen: slice = slice(None)) -> Float64[np.ndarray, "_ 4"]:
        """x, y, width, height of some boxes, as stated where that is known."""
        if self.stated_boxes is not None:
            return self.stated_boxes[chosen]
        boxes = self.boxes[chosen].astype(np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _faults(data: Dataset) -> Iterator[str]:
    num_images, num_objects, num_classes = len(data.image_ids), len(data.labels), len(data.category_ids)
    lengths = dict.fromkeys(("file_names", "sizes"), num_images)
    lengths |= dict.fromkeys(("annotation_ids", "boxes", "areas", "crowd", "flags"), num_objects)
    lengths |= {
        name: num_objects for name in ("stated_boxes", "keypoints", "attributes") if getattr(data, name) is not None
    }
    lengths |= {"stated_ids": num_images} if data.stated_ids is not None else {}
    lengths |= {"first_object": num_images + 1, "first_ring": num_objects + 1, "category_names": num_classes}
    for name, length in lengths.items():
        if len(getattr(data, name)) != length:
            yield f"expected {length} entries of `{name}`, got {len(getattr(data, name))}"
            return
    for name, end in (("first_object", num_objects), ("first_ring", len(data.rings.first) - 1)):
        first = getattr(data, name)
        if first[0] != 0 or first[-1] != end or (np.diff(first) < 0).any():
            yield f"expected `{name}` to rise from 0 to {end}, got {first[0]} to {first[-1]}"
    outside = (data.labels < 1) | (data.labels > num_classes)
    if outside.any():
        yield f"expected labels from 1 to {num_classes}, one for each category, got {data.labels[outside][0]}"
    empty = (data.boxes[:, 2:] <= data.boxes[:, :2]).any(axis=1) & data.learnt
    if empty.any():
        told = data.boxes[empty][0].tolist()
        yield f"expected boxes (x1, y1, x2, y2) with some area, or the flag OUTSIDE, got {told}"


def lie_inside(boxes: Float32[np.ndarray, "n 4"], sizes: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether each box (xyxy) keeps some area when it is cut to its image, of (height, width)."""
    return (np.minimum(boxes[:, 2:], sizes[:, ::-1]) > boxes[:, :2].clip(min=0)).all(axis=1)


def select(data: Dataset, images: Int64[np.ndarray, " n"]) -> Dataset:
    """Some images of a data set, by index, in any order; one that is chosen twice gives its ids twice."""
    objects, first_object = members(data.first_object, images)
    rings, first_ring = members(data.first_ring, objects)
    points, first_point = members(data.rings.first, rings)
    return replace(
        data,
        image_ids=data.image_ids[images],
        file_names=[data.file_names[image] for image in images.tolist()],
        sizes=data.sizes[images],
        first_object=first_object,
        rings=Rings(data.rings.points[points], first_point.astype(np.int32)),
        first_ring=first_ring,
        parts=None if data.parts is None else Parts(*(column[images] for column in data.parts)),
        stated_ids=None if data.stated_ids is None else [data.stated_ids[image] for image in images.tolist()],
        attributes=None if data.attributes is None else [data.attributes[index] for index in objects.tolist()],
        **_of_objects(data, objects),
    )


def keep_objects(data: Dataset, keep: Bool[np.ndarray, " O"]) -> Dataset:
    """Some objects of a data set, all its images."""
    objects = np.flatnonzero(keep)
    rings, first_ring = members(data.first_ring, objects)
    points, first_point = members(data.rings.first, rings)
    return replace(
        data,
        first_object=np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[data.first_object],
        rings=Rings(data.rings.points[points], first_point.astype(np.int32)),
        first_ring=first_ring,
        attributes=None if data.attributes is None else [data.attributes[index] for index in objects.tolist()],
        **_of_objects(data, objects),
    )


def _of_objects(data: Dataset, objects: Int64[np.ndarray, " n"]) -> dict[str, Any]:
    """Columns of some objects."""
    names = ("annotation_ids", "labels", "boxes", "areas", "crowd", "flags", "stated_boxes", "keypoints")
    return {name: getattr(data, name)[objects] for name in names if getattr(data, name) is not None}


def summary(data: Dataset) -> str:
    """What was read, for a person to check once at the start."""
    return "\n".join([contents(data)] + [f"  note: {note}" for note in data.notes])


def contents(data: Dataset) -> str:
    """How many images, objects and categories a data set has, and how often each of the first categories occurs."""
    counts = np.bincount(data.labels, minlength=len(data.category_ids) + 1)[1:]
    empty = np.count_nonzero(np.diff(data.first_object) == 0)
    named = zip(data.category_names, data.category_ids, counts, strict=True)
    return (
        f"{by_archive(str(data.annotations))}: {counted(len(data.image_ids), 'images')} ({empty} without objects), "
        f"{counted(len(data.labels), 'objects')} ({counted(int(data.crowd.sum()), 'crowd regions')}), "
        f"{counted(len(data.category_ids), 'categories')}\n  "
        + some_of([f"{name} (id {id}): {count}" for name, id, count in named], MOST_TOLD)
    )


def _notes(data: Dataset) -> Iterator[str]:
    yield from map(by_archive, data.remarks)
    for flag, sentence in SENTENCES.items():
        rows = np.flatnonzero(data.flags & flag)
        if len(rows):
            yield f"{counted(len(rows), f'objects {sentence}')}, first annotation {data.annotation_ids[rows[0]]}"
    if not data.has_something_to_learn:
        yield f"there is nothing to learn: {why_nothing_is_learnt(data)}"


def why_nothing_is_learnt(data: Dataset) -> str:
    """What the objects are of a data set in which none can be learnt."""
    if not len(data.labels):
        return "no image has an object"
    crowds, rest = int(data.crowd.sum()), int((~data.crowd).sum())
    told = [
        *([counted(crowds, "crowd regions")] if crowds else []),
        *([f"{rest} without area in the image"] if rest else []),
    ]
    return f"{counted(len(data.labels), 'objects')}: {' and '.join(told)}"


def members(
    first: Integer[np.ndarray, " _"], chosen: Int64[np.ndarray, " m"]
) -> tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " m+1"]]:
    """(members of the chosen groups, where each group begins among them).

    first   members first[g] : first[g + 1] are those of group g
    """
    lengths = np.diff(first)[chosen]
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return np.repeat(first[chosen] - starts[:-1], lengths) + np.arange(starts[-1]), starts
