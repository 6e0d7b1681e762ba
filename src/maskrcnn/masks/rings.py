"""Outlines as closed rings, from polygons and from run lengths."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Integer, Shaped, UInt32
from numpy import ndarray
from numpy.typing import ArrayLike

from maskrcnn.kernels import kernel
from maskrcnn.masks.bitmaps import counts_from_bitmap
from maskrcnn.masks.coordinates import narrowed
from maskrcnn.masks.counts import of_image
from maskrcnn.masks.trace import trace

Outline = list[Float32[ndarray, "_ 2"]]
"""The ring of a body in one piece, then those of its holes, which turn the other way."""


class Rings(NamedTuple):
    """Closed rings; ring r is points[first[r] : first[r + 1]] and its last point is joined to its first."""

    points: Float32[ndarray, "V 2"]
    first: Int32[ndarray, "R+1"]


def rings_from_polygons(polygons: Sequence[ArrayLike]) -> Rings:
    """The outline of COCO polygons (x1, y1, x2, y2, ...): each is part of the body, and the parts unite.

    Raises ValueError, naming the polygon, for fewer than 3 points, an odd length, or anything but finite numbers.
    """
    parts = [_polygon_points(polygon, index) for index, polygon in enumerate(polygons)]
    first = np.zeros(len(parts) + 1, np.int32)
    np.cumsum([len(part) for part in parts], out=first[1:])
    points = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
    _turn_rings_to_positive_area(points, first)
    return Rings(points, first)


def rings_from_counts(counts: ArrayLike, height: int, width: int) -> Rings:
    """The outline of a run-length mask, along the cracks between pixels. Costs what its runs do, not its pixels.

    Coordinates are integers, straight runs have no points in between, and pixels that touch at a corner alone
    belong to different rings. The winding number is 1 inside and 0 outside, so every pixel centre comes back.
    Bodies stand from left to right, each followed by its holes.
    Raises ValueError where the counts do not sum to height * width.
    """
    runs = of_image(counts, height, width)
    points, first, _ = trace(runs, np.array([len(runs)]), height)
    return Rings(points, first)


def counts_from_rings(
    rings: Rings, chosen: Int64[ndarray, "D 2"], height: int, width: int
) -> tuple[UInt32[ndarray, " N"], Int64[ndarray, " D"]]:
    """The run lengths that `rings_from_counts` took, of many masks at once, and where those of each stop.

    chosen   the first ring of each mask, and the one behind its last
    """
    return _counts_from_rings(rings.points, rings.first, chosen, height, height * width)


def rings_from_bitmap(mask: Shaped[ndarray, "h w"]) -> Rings:
    """The outline of the pixels that are not zero, along the cracks between pixels."""
    return rings_from_counts(counts_from_bitmap(mask), *mask.shape)


def polygons_from_bitmap(mask: Shaped[ndarray, "h w"]) -> list[Float32[ndarray, "_ 2"]]:
    """The rings of `rings_from_bitmap` as one (V, 2) array each, from top to bottom; `signed_areas` tells holes.

    COCO's polygons can say no holes: an object that has some is written to COCO as run lengths.
    """
    mirrored = _cut(*rings_from_bitmap(mask.T))  # turns the other way
    return [np.roll(ring[::-1, ::-1], 1, axis=0) for ring in mirrored]


def outlines_from_runs(
    counts: Integer[ndarray, " N"], stops: Integer[ndarray, " D"], height: int
) -> list[list[Outline]]:
    """The rings of `rings_from_counts` for many masks at once, those of each body by themselves. Releases the GIL.

    stops   the runs of each mask follow those of the one before it up to its stop; their sums are not checked
    """
    points, first, first_ring = trace(counts, stops, height)
    rings, first_body = _cut(points, first), np.flatnonzero(_signed_areas(points, first) > 0)
    outlines = [rings[start:stop] for start, stop in pairwise([*first_body.tolist(), len(rings)])]
    first_outline = np.searchsorted(first_body, first_ring).tolist()
    return [outlines[start:stop] for start, stop in pairwise(first_outline)]


def signed_areas(rings: Rings) -> Float64[ndarray, " R"]:
    """Square pixels of each ring: positive for parts of the body, negative for holes."""
    return _signed_areas(rings.points, rings.first)


def edges_from_rings(rings: Rings) -> Float32[ndarray, "V 4"]:
    """Directed edges (x1, y1, x2, y2), one from each point to the next of its ring."""
    following = np.arange(1, len(rings.points) + 1)
    following[rings.first[1:] - 1] = rings.first[:-1]
    return np.concatenate([rings.points, rings.points[following]], axis=1)


def _cut(points: Float32[ndarray, "V 2"], first: Int32[ndarray, " _"]) -> list[Float32[ndarray, "_ 2"]]:
    return [points[start:stop] for start, stop in pairwise(first.tolist())]


def _polygon_points(polygon: ArrayLike, index: int) -> Float32[ndarray, "_ 2"]:
    try:
        numbers = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"polygon {index}: expected numbers x1, y1, x2, y2, ..., received {polygon!r:.80}") from None
    if numbers.ndim != 1 or len(numbers) % 2 or len(numbers) < 6:
        raise ValueError(
            f"polygon {index}: expected a flat list x1, y1, x2, y2, ... of at least 3 points, "
            f"received shape {numbers.shape}; remove the polygon or give it its missing points"
        )
    numbers = narrowed(numbers)
    if not np.isfinite(numbers).all():
        where = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"polygon {index}: expected finite coordinates, received {numbers[where]} at {where}")
    return numbers.reshape(-1, 2)


@kernel()
@no_type_check
def _signed_area(points, start, stop):
    # Relative to the first point: far from the origin float32 coordinates lose nothing to cancellation.
    x0, y0 = np.float64(points[start, 0]), np.float64(points[start, 1])
    twice = 0.0
    for i in range(start + 1, stop - 1):
        twice += (points[i, 0] - x0) * (points[i + 1, 1] - y0) - (points[i + 1, 0] - x0) * (points[i, 1] - y0)
    return 0.5 * twice


@kernel()
@no_type_check
def _signed_areas(points, first):
    areas = np.empty(len(first) - 1, np.float64)
    for r in range(len(areas)):
        areas[r] = _signed_area(points, first[r], first[r + 1])
    return areas


@kernel()
@no_type_check
def _counts_from_rings(points, first, chosen, height, pixels):
    """(counts, where those of each mask stop): every horizontal crack of a ring turns its column on or off."""
    most = 0
    for d in range(len(chosen)):
        most += _cracks(points, first, chosen[d], height, np.empty(0, np.int64))
    counts, stops = np.empty(most + 2 * len(chosen), np.uint32), np.empty(len(chosen), np.int64)
    offsets, num_counts = np.empty(most, np.int64), 0
    for d in range(len(chosen)):
        turns = offsets[: _cracks(points, first, chosen[d], height, offsets)]
        turns.sort()
        position, k = np.int64(0), 0
        while k < len(turns):
            if k + 1 < len(turns) and turns[k] == turns[k + 1]:  # a run goes on in the next column
                k += 2
                continue
            counts[num_counts], position = turns[k] - position, turns[k]
            num_counts, k = num_counts + 1, k + 1
        if position < pixels:
            counts[num_counts], num_counts = pixels - position, num_counts + 1
        stops[d] = num_counts
    return counts[:num_counts].copy(), stops


@kernel()
@no_type_check
def _cracks(points, first, chosen, height, offsets):
    """How many cracks there are in a mask; where, counted down the columns, goes to `offsets` as it has room."""
    num = 0
    for r in range(chosen[0], chosen[1]):
        last = first[r + 1] - 1
        for i in range(first[r], first[r + 1]):
            x, y = np.int64(points[last, 0]), np.int64(points[last, 1])
            other = np.int64(points[i, 0])
            if y == points[i, 1]:
                for column in range(min(x, other), max(x, other)):
                    if num < len(offsets):
                        offsets[num] = column * height + y
                    num += 1
            last = i
    return num


@kernel()
@no_type_check
def _turn_rings_to_positive_area(points, first):
    for r in range(len(first) - 1):
        if _signed_area(points, first[r], first[r + 1]) < 0:
            turn_ring(points, first[r], first[r + 1])


@kernel()
@no_type_check
def turn_ring(points, start, stop):
    """Reverse the order of points start..stop in place."""
    for k in range((stop - start) // 2):
        for axis in range(2):
            left, right = points[start + k, axis], points[stop - 1 - k, axis]
            points[start + k, axis], points[stop - 1 - k, axis] = right, left
