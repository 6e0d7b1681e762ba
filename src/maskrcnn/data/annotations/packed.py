"""What an annotation file says, as a few arrays: checked, objects sorted by image, outlines packed as rings."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from maskrcnn.data.annotations.annotation_file import parse
from maskrcnn.data.annotations.categories import Categories, read_categories
from maskrcnn.data.annotations.images import Images, SizesOf, read_images
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.outlines import Outlines, arrange_outlines
from maskrcnn.data.annotations.part import Frame, Objects, Part, read_part
from maskrcnn.data.annotations.unique_ids import make_unique
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults
from maskrcnn.masks import Rings

SLICE = 4096
"""Annotations that a thread takes at once."""
THREADS = 4


class Packed(NamedTuple):
    """Arrays and words of one annotation file; `Dataset` says what they mean."""

    image_ids: Int64[np.ndarray, " N"]
    stated_ids: tuple[str, ...]
    """Empty where `image_ids` are those of the file."""
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
    remarks: tuple[str, ...]


class Content(NamedTuple):
    """All that a file says, in its order."""

    images: Images
    categories: Categories
    objects: Objects
    usable: Bool[np.ndarray, " n"]
    """Objects that are kept."""
    outlines: list[Outlines]
    attributes: list[bytes]
    """The other fields of every object; empty where no object has any."""


def read_content(text: bytes, path: Path, faults: Faults, sizes_of: SizesOf | None = None) -> Content:
    """What the text of an annotation file says. What cannot be used is reported and left out.

    sizes_of   as of `read_images`
    Raises ValueError where nothing can be read: one sentence with the file and what to do.
    """
    try:
        return _read_content(text, faults, sizes_of)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: holds brackets within brackets, too many to be read; remove them") from None


def _read_content(text: bytes, faults: Faults, sizes_of: SizesOf | None) -> Content:
    file = parse(text, faults)
    images = read_images(file.images, sizes_of, faults)
    categories = read_categories(file.categories, faults)
    frame = Frame(images.register, categories.register, images.sizes, categories.keypoint_names)

    def read(start: int) -> Part:
        return read_part(file.annotations[start : start + SLICE], start, frame)

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(read, range(0, max(len(file.annotations), 1), SLICE)))
    objects = Objects(*map(np.concatenate, zip(*(part.objects for part in parts), strict=True)))
    attributes = [text for part in parts for text in part.attributes]
    usable = np.concatenate([part.usable for part in parts])
    odd_ids = {number * SLICE + row: id for number, part in enumerate(parts) for row, id in part.odd_ids.items()}
    for part in parts:
        faults.take(part.faults)
    make_unique(objects.ids, odd_ids, usable, file.annotations, faults)
    return Content(
        images=images,
        categories=categories,
        objects=objects,
        usable=usable,
        outlines=[part.outlines for part in parts],
        attributes=attributes if any(attributes) else [],
    )


def arrange(content: Content) -> Packed:
    """The objects sorted by image."""
    images, categories, num_images = content.images, content.categories, len(content.images.ids)
    order = np.argsort(np.where(content.usable, content.objects.images, num_images), kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    rings, first_ring = arrange_outlines(content.outlines, ranks)
    order = order[: np.count_nonzero(content.usable)]  # those that are left out stand last
    objects = Objects(*(column[order] for column in content.objects))
    first_ring = first_ring[: len(order) + 1]
    first_point = rings.first[: first_ring[-1] + 1]
    attributes = Names.join([content.attributes[index] for index in order.tolist()] if content.attributes else [])
    return Packed(
        image_ids=images.ids,
        stated_ids=images.stated_ids,
        name_text=images.names.text,
        first_letter=images.names.first,
        sizes=images.sizes,
        first_object=np.searchsorted(objects.images, np.arange(num_images + 1)).astype(np.int64),
        annotation_ids=objects.ids,
        labels=objects.labels,
        boxes=objects.boxes,
        stated_boxes=objects.stated_boxes,
        areas=objects.areas,
        crowd=objects.crowd,
        flags=objects.flags,
        points=rings.points[: first_point[-1]],
        first_point=first_point,
        first_ring=first_ring,
        category_ids=categories.ids,
        category_names=categories.names,
        keypoints=objects.keypoints,
        keypoint_names=categories.keypoint_names,
        attribute_text=attributes.text,
        first_attribute=attributes.first,
        remarks=(),
    )


def as_dataset(columns: Packed, annotations: Path, images: Path) -> Dataset:
    """The columns as a data set, which shares their memory."""
    return Dataset(
        annotations=annotations,
        images=images,
        image_ids=columns.image_ids,
        file_names=Names(columns.name_text, columns.first_letter),
        sizes=columns.sizes,
        first_object=columns.first_object,
        annotation_ids=columns.annotation_ids,
        labels=columns.labels,
        boxes=columns.boxes,
        areas=columns.areas,
        crowd=columns.crowd,
        flags=columns.flags,
        rings=Rings(columns.points, columns.first_point),
        first_ring=columns.first_ring,
        category_ids=tuple(columns.category_ids.tolist()),
        category_names=columns.category_names,
        stated_boxes=columns.stated_boxes,
        keypoints=columns.keypoints if columns.keypoint_names else None,
        keypoint_names=columns.keypoint_names,
        attributes=Names(columns.attribute_text, columns.first_attribute) if len(columns.attribute_text) else None,
        stated_ids=columns.stated_ids or None,
        remarks=columns.remarks,
    )
