"""The objects of an image as writers of polygon formats want them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.masks import Rings, bitmap_from_counts, counts_from_rings, decimals, signed_areas

Ring = Float64[ndarray, "_ 2"]


class Shape(NamedTuple):
    """An object."""

    index: int
    """Its row in the data set."""
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
