"""The objects of an image as writers of polygon formats want them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.formats.one_ring import joined
from maskrcnn.data.image_file import LONGEST_SIDE
from maskrcnn.masks import (
    Rings,
    bitmap_from_counts,
    bitmap_from_rings,
    counts_from_rings,
    decimals,
    rings_from_bitmap,
    signed_areas,
    window_of,
)

Ring = Float64[ndarray, "_ 2"]
SHARED = 0.01
"""Share of an object's pixels that may lie in several of its parts when these are written as one ring."""


class Shape(NamedTuple):
    """An object."""

    row: int
    """Where it stands in the data set."""
    name: str
    """Its class."""
    box: tuple[float, float, float, float]
    """x, y, width, height."""
    bodies: list[list[Ring]]
    """Its parts, each the ring around it and those of its holes, in decimals that draw the same mask."""
    is_box: bool
    """Whether there is no outline; then the only body is the box."""
    is_mask: bool
    """Whether its rings run along the borders of pixels."""
    crowd: bool
    attributes: dict[str, Any]

    @property
    def rings(self) -> list[Ring]:
        """All rings."""
        return [ring for body in self.bodies for ring in body]

    @property
    def has_holes(self) -> bool:
        """Whether one of its parts has a hole that is a ring of its own."""
        return any(len(body) > 1 for body in self.bodies)


def shapes_of(data: Dataset, image: int) -> Iterator[Shape]:
    """The objects of an image, in their order."""
    chosen = data.objects(image)
    for index, box in zip(range(chosen.start, chosen.stop), data.boxes_xywh(chosen).tolist(), strict=True):
        flags = int(data.flags[index])
        text = data.attributes[index] if data.attributes is not None else ""
        yield Shape(
            index,
            data.category_names[data.labels[index] - 1],
            tuple(box),
            _bodies(data, index, bool(flags & Flag.RUN_LENGTHS)),
            bool(flags & Flag.NO_OUTLINE),
            bool(flags & Flag.RUN_LENGTHS),
            bool(data.crowd[index]),
            msgspec.json.decode(text) if text else {},
        )


def ring_of(data: Dataset, shape: Shape) -> Ring:
    """All parts and holes of an object as one ring, see `one_ring`.

    Polygons that overlap unite, but a reader that fills by even-odd would leave out what two have: where that is more
    than `SHARED` of them, the ring follows the pixels of the whole.
    """
    if shape.is_mask or len(shape.bodies) < 2 or _shared(data, shape.row) <= SHARED:
        return joined(shape.rings)
    outline = data.outline(shape.row)
    window = window_of(outline, *_limits(outline))
    whole = rings_from_bitmap(bitmap_from_rings(outline, window))
    moved = whole.points.astype(np.float64) + np.array([window[1], window[0]])
    return joined(np.split(moved, whole.first[1:-1]))


def _shared(data: Dataset, index: int) -> float:
    """Share of an object's pixels that lie in more than one of its parts."""
    outline = data.outline(index)
    limits = _limits(outline)
    times = np.zeros(limits, np.int32)
    for part in np.split(outline.points, outline.first[1:-1]):
        one = Rings(part, np.array([0, len(part)], np.int32))
        top, left, bottom, right = window = window_of(one, *limits)
        times[top:bottom, left:right] += bitmap_from_rings(one, window)
    return float(np.mean(times[times > 0] > 1)) if np.any(times) else 0.0


def _limits(outline: Rings) -> tuple[int, int]:
    """(height, width) beyond which an outline does not reach."""
    width, height = np.ceil(outline.points.max(axis=0).clip(1, LONGEST_SIDE)).astype(int).tolist()
    return height, width


def mask_of(data: Dataset, index: int) -> tuple[Bool[ndarray, "h w"], int, int]:
    """The pixels of an object whose rings run along the borders of pixels, as (window, left, top)."""
    outline = data.outline(index)
    left, top = outline.points.min(axis=0).astype(int).tolist()
    right, bottom = outline.points.max(axis=0).astype(int).tolist()
    moved = Rings(outline.points - np.array([left, top], np.float32), outline.first)
    size = bottom - top, right - left
    counts, _ = counts_from_rings(moved, np.array([[0, len(outline.first) - 1]]), *size)
    return bitmap_from_counts(counts, *size), left, top


def _bodies(data: Dataset, index: int, is_mask: bool) -> list[list[Ring]]:
    outline = data.outline(index)
    points = decimals(np.ascontiguousarray(outline.points))
    rings = [points[start:stop] for start, stop in pairwise(outline.first.tolist())]
    if not is_mask:
        return [[ring] for ring in rings]
    starts = np.flatnonzero(signed_areas(outline) > 0).tolist()
    return [rings[start:stop] for start, stop in pairwise([*starts, len(rings)])]
