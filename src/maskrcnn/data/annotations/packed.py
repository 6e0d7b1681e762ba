"""What an annotation file says, as a few arrays: checked, objects sorted by image, outlines packed as rings."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8
from msgspec import Raw

from maskrcnn.data.annotations.annotation_file import AnnotationEntry, AnnotationFile, ImageEntry, decode_row, parse
from maskrcnn.data.annotations.extras import keypoint_names, other_fields, read_keypoints
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.outlines import Outlines, arrange_outlines, read_outlines
from maskrcnn.data.annotations.scan import Scanned, scan
from maskrcnn.data.dataset import Flag

SLICE = 4096
"""Annotations that a thread takes at once."""
THREADS = 4


class Packed(NamedTuple):
    """Arrays and words of one annotation file; `Dataset` says what they mean."""

    image_ids: Int64[np.ndarray, " N"]
    name_text: UInt8[np.ndarray, " T"]
    first_letter: Int64[np.ndarray, " N+1"]
    sizes: Int64[np.ndarray, "N 2"]
    first_object: Int64[np.ndarray, " N+1"]
    annotation_ids: Int64[np.ndarray, " O"]
    labels: Int64[np.ndarray, " O"]
    boxes: Float32[np.ndarray, "O 4"]
    stated_boxes: Float64[np.ndarray, "O 4"]
    areas: Float64[np.ndarray, " O"]
    crowd: Bool[np.ndarray, " O"]
    flags: UInt8[np.ndarray, " O"]
    points: Float32[np.ndarray, "V 2"]
    first_point: Int32[np.ndarray, " R+1"]
    first_ring: Int64[np.ndarray, " O+1"]
    category_ids: Int64[np.ndarray, " K"]
    category_names: tuple[str, ...]
    keypoints: Float32[np.ndarray, "O J 3"]
    keypoint_names: tuple[str, ...]
    attribute_text: UInt8[np.ndarray, " A"]
    first_attribute: Int64[np.ndarray, " _"]


class Objects(NamedTuple):
    """Annotations in the order of the file."""

    ids: Int64[np.ndarray, " n"]
    images: Int64[np.ndarray, " n"]
    """Index of each object's image in the file."""
    labels: Int64[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    stated_boxes: Float64[np.ndarray, "n 4"]
    areas: Float64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    flags: UInt8[np.ndarray, " n"]
    keypoints: Float32[np.ndarray, "n J 3"]


class Content(NamedTuple):
    """All that a file says, in its order."""

    image_ids: Int64[np.ndarray, " N"]
    names: Names
    sizes: Int64[np.ndarray, "N 2"]
    category_ids: Int64[np.ndarray, " K"]
    category_names: tuple[str, ...]
    objects: Objects
    outlines: list[Outlines]
    keypoint_names: tuple[str, ...]
    attributes: list[bytes]
    """The other fields of every object; empty where no object has any."""


class Part(NamedTuple):
    """Some annotations that stand together in the file."""

    objects: Objects
    outlines: Outlines
    attributes: list[bytes]


class _Register(NamedTuple):
    """Ids that annotations name."""

    noun: str
    ids: Int64[np.ndarray, " n"]
    """In ascending order."""
    indices: Int64[np.ndarray, " n"]
    """Where the file has them."""


def read_content(text: bytes, path: Path) -> Content:
    """What the text of an annotation file says. Raises ValueError: one sentence with file, ids and what to do."""
    file = parse(text, path)
    _check_images(file.images, path)
    categories = sorted(file.categories, key=lambda category: category.id)
    image_ids = np.array([image.id for image in file.images], np.int64)
    category_ids = np.array([category.id for category in categories], np.int64)
    _refuse_duplicates(image_ids, path, "image")
    _refuse_duplicates(category_ids, path, "category")
    if not categories:
        raise ValueError(f"{path}: `categories` is empty; give every class an id and a name")
    sizes = np.array([(image.height, image.width) for image in file.images], np.int64)

    images, labels = _register("image", image_ids), _register("category", category_ids)
    names = keypoint_names(categories)

    def read(start: int) -> Part:
        return _read_part(file, start, text, images, labels, sizes, names, path)

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(read, range(0, max(len(file.annotations), 1), SLICE)))
    objects = Objects(*map(np.concatenate, zip(*(part.objects for part in parts), strict=True)))
    attributes = [text for part in parts for text in part.attributes]
    _refuse_duplicates(objects.ids, path, "annotation")
    return Content(
        image_ids=image_ids,
        names=Names.pack([image.file_name for image in file.images]),
        sizes=sizes,
        category_ids=category_ids,
        category_names=tuple(category.name for category in categories),
        objects=objects,
        outlines=[part.outlines for part in parts],
        keypoint_names=names,
        attributes=attributes if any(attributes) else [],
    )


def arrange(content: Content) -> Packed:
    """The objects sorted by image."""
    order = np.argsort(content.objects.images, kind="stable")
    objects = Objects(*(column[order] for column in content.objects))
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    rings, first_ring = arrange_outlines(content.outlines, ranks)
    attributes = Names.join([content.attributes[index] for index in order.tolist()] if content.attributes else [])
    return Packed(
        image_ids=content.image_ids,
        name_text=content.names.text,
        first_letter=content.names.first,
        sizes=content.sizes,
        first_object=np.searchsorted(objects.images, np.arange(len(content.image_ids) + 1)).astype(np.int64),
        annotation_ids=objects.ids,
        labels=objects.labels,
        boxes=objects.boxes,
        stated_boxes=objects.stated_boxes,
        areas=objects.areas,
        crowd=objects.crowd,
        flags=objects.flags,
        points=rings.points,
        first_point=rings.first,
        first_ring=first_ring,
        category_ids=content.category_ids,
        category_names=content.category_names,
        keypoints=objects.keypoints,
        keypoint_names=content.keypoint_names,
        attribute_text=attributes.text,
        first_attribute=attributes.first,
    )


def _check_images(images: Sequence[ImageEntry], path: Path) -> None:
    if not images:
        raise ValueError(f"{path}: `images` is empty; there is nothing to read")
    for image in images:
        if image.height <= 0 or image.width <= 0:
            raise ValueError(
                f"{path}: image {image.id} states height {image.height} and width {image.width}; both must be positive"
            )


def _register(noun: str, ids: Int64[np.ndarray, " n"]) -> _Register:
    indices = np.argsort(ids)
    return _Register(noun, ids[indices], indices)


def _refuse_duplicates(ids: Int64[np.ndarray, " n"], path: Path, noun: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path}: {noun} id {values[counts > 1][0]} occurs more than once; ids must be unique")


def _read_part(
    file: AnnotationFile,
    start: int,
    text: bytes,
    images: _Register,
    labels: _Register,
    sizes: Int64[np.ndarray, "N 2"],
    keypoints: Sequence[str],
    path: Path,
) -> Part:
    """The next annotations from `start`."""
    rows = file.annotations[start : start + SLICE]
    stops = np.cumsum([*map(len, rows)], dtype=np.int64)
    joined = b"".join(rows)
    scanned = scan(np.frombuffer(joined, np.uint8), stops)
    others: dict[int, bytes | Raw] = {}
    attributes = Names(scanned.others, scanned.first_other).encoded() if len(scanned.others) else [b""] * len(rows)
    for index in np.flatnonzero(scanned.strange_outline).tolist():
        begin, stop = scanned.segmentations[index]
        others[index] = joined[begin:stop]
    for index in np.flatnonzero(scanned.strange).tolist():
        row = decode_row(file, start + index, text, path)
        scanned.ids[index], scanned.image_ids[index] = row.id, row.image_id
        scanned.category_ids[index] = row.category_id
        scanned.boxes[index], scanned.areas[index], scanned.crowd[index] = row.bbox, _area(row), bool(row.iscrowd)
        others[index], attributes[index] = row.segmentation, other_fields(rows[index])
    image = _look_up(scanned.image_ids, images, scanned, path)
    label = _look_up(scanned.category_ids, labels, scanned, path)
    boxes = _corners(scanned, path)
    outlines = read_outlines(scanned, boxes, others, sizes[image], path)
    flags = outlines.flags | np.where(_inside(boxes, sizes[image]), 0, Flag.OUTSIDE).astype(np.uint8)
    points = read_keypoints(rows, keypoints, scanned.ids, path)
    objects = Objects(scanned.ids, image, 1 + label, boxes, scanned.boxes, scanned.areas, scanned.crowd, flags, points)
    return Part(objects, outlines, attributes)


def _look_up(
    wanted: Int64[np.ndarray, " n"], register: _Register, scanned: Scanned, path: Path
) -> Int64[np.ndarray, " n"]:
    """Where the file has each wanted id."""
    found = np.searchsorted(register.ids, wanted).clip(max=len(register.ids) - 1)
    strange = np.flatnonzero(register.ids[found] != wanted)
    if len(strange):
        row = strange[0]
        raise ValueError(
            f"{path}: annotation {scanned.ids[row]} of image {scanned.image_ids[row]} names {register.noun} "
            f"{wanted[row]}, which the file does not list; add the {register.noun} or remove the annotation"
        )
    return register.indices[found]


def _corners(scanned: Scanned, path: Path) -> Float32[np.ndarray, "n 4"]:
    with np.errstate(over="ignore"):
        boxes = (scanned.boxes + np.pad(scanned.boxes[:, :2], ((0, 0), (2, 0)))).astype(np.float32)
    if not np.isfinite(boxes).all():
        row = int(np.isfinite(boxes).all(axis=1).argmin())
        raise ValueError(
            f"{path}: annotation {scanned.ids[row]} of image {scanned.image_ids[row]} has the box "
            f"{tuple(scanned.boxes[row].tolist())}; correct it"
        )
    return boxes


def _area(row: AnnotationEntry) -> float:
    """What is no number is measured, as where nothing is stated."""
    return row.area if isinstance(row.area, int | float) else math.nan


def _inside(boxes: Float32[np.ndarray, "n 4"], sizes: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which boxes keep some area when cut to their image."""
    low = boxes[:, :2].clip(min=0)
    high = np.minimum(boxes[:, 2:], sizes[:, ::-1])
    return (high > low).all(axis=1)
