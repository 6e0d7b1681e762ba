"""What tells one training set from another: a number for each image, with all that is learnt from it."""

import hashlib
from collections.abc import Iterable
from typing import Any, no_type_check
from zlib import crc32

import numpy as np
from jaxtyping import UInt64
from numpy import ndarray

from maskrcnn.data.dataset import Dataset
from maskrcnn.kernels import kernel
from maskrcnn.sentences import counted

FACTOR = 0x9E3779B97F4A7C15
"""Odd, with bits in no order (2^64 divided by the golden ratio): multiplying by it spreads a change upwards."""
DIGITS = 32
"""Letters of the sums."""


def identity(data: Dataset) -> dict[str, Any]:
    """What a data set is, in four values: numbers of images and objects, and sums of its order and of its contents.

    Image ids, names without folders, sizes, and of each object category, box, outline and crowd count; not where files
    lie, nor areas, keypoints and attributes, which nobody learns.
    """
    numbers = _numbers(data)
    return {
        "images": len(data.image_ids),
        "objects": len(data.labels),
        "order": _sum(numbers),
        "contents": _sum(np.sort(numbers)),
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """How a data set differs from the one that was learnt from, in what is known of that; None where it does not."""
    before = now | before
    for kind in ("images", "objects"):
        if before[kind] != now[kind]:
            return f"learnt from {counted(before[kind], kind)}, the data have {now[kind]} now"
    if before["contents"] != now["contents"]:
        return (
            "learnt from as many images and objects, of which some have another name, size, category, box or outline "
            "now"
        )
    if before["order"] != now["order"]:
        return "learnt from the same images in another order"
    return None


def _numbers(data: Dataset) -> UInt64[ndarray, " N"]:
    names = np.fromiter(_base_names(data.file_names), np.uint64, len(data.image_ids))
    images = np.column_stack([data.image_ids.view(np.uint64), data.sizes.view(np.uint64), names])
    boxes = np.ascontiguousarray(data.boxes).view(np.uint64)
    of_object = (data.labels.view(np.uint64) << 16) | (data.flags.astype(np.uint64) << 8) | data.crowd.view(np.uint8)
    objects = np.column_stack([of_object, boxes])
    points = np.ascontiguousarray(data.rings.points).view(np.uint64).reshape(-1)
    return _mixed(images, data.first_object, objects, data.first_ring, data.rings.first, points)


def _base_names(names: Iterable[str]) -> Iterable[int]:
    return (crc32(name.rpartition("/")[2].encode("utf-8", "surrogateescape")) for name in names)


def _sum(numbers: UInt64[ndarray, " N"]) -> str:
    return hashlib.sha256(numbers.astype("<u8").tobytes()).hexdigest()[:DIGITS]


@kernel()
@no_type_check
def _mix(state, word):
    state = (state ^ word) * np.uint64(FACTOR)
    return state ^ (state >> np.uint64(29))


@kernel()
@no_type_check
def _mixed(images, first_object, objects, first_ring, first_point, points):
    """A number for each image of what is said of it: each word changes the state that the next one meets."""
    numbers = np.empty(len(images), np.uint64)
    for image in range(len(images)):
        state = np.uint64(1)
        for word in images[image]:
            state = _mix(state, word)
        for index in range(first_object[image], first_object[image + 1]):
            for word in objects[index]:
                state = _mix(state, word)
            for ring in range(first_ring[index], first_ring[index + 1]):
                state = _mix(state, np.uint64(first_point[ring + 1] - first_point[ring]))
                for point in range(first_point[ring], first_point[ring + 1]):
                    state = _mix(state, points[point])
        numbers[image] = state
    return numbers
