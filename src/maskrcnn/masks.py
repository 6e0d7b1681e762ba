"""Outlines, bitmaps and COCO run lengths of one object, and the exact ways between them.

An outline is a set of closed rings of points (x, y) in continuous pixels: pixel (row i, column j) covers
[j, j + 1] x [i, i + 1]. Inside is where the winding number is not zero. The body runs the way that makes
x dy - y dx positive (clockwise on the screen), holes the other way.

Run lengths count pixels down the columns, first background, then foreground, in turn. COCO's file format writes
them as a list of integers, or as a string of characters with 5 bits each.

All kernels are serial and release the GIL: they run inside the threads of a loader. Numba infers their types.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32, Shaped, UInt8, UInt32
from numba import njit
from numpy import ndarray
from numpy.typing import ArrayLike

MAX_STRING_LENGTH = 7
"""Characters that one run needs at most: 33 bits (an unsigned count or the difference of two), 5 in each."""

_GOOD, _BAD_CHARACTER, _CUT_OFF, _OUT_OF_RANGE = 0, 1, 2, 3
_STRING_FAULTS = {
    _BAD_CHARACTER: "the characters '0' to 'o' are allowed",
    _CUT_OFF: "the string ends within a run",
    _OUT_OF_RANGE: "the run that ends there is negative or larger than 2**32 - 1",
}


class Rings(NamedTuple):
    """Closed rings; ring r is points[first[r] : first[r + 1]] and its last point is joined to its first."""

    points: Float32[ndarray, "V 2"]
    first: Int32[ndarray, "R+1"]


def rings_from_polygons(polygons: Sequence[ArrayLike]) -> Rings:
    """The outline of COCO polygons (x1, y1, x2, y2, ...): each is part of the body, and the parts unite.

    Raises ValueError, naming the polygon, for fewer than 3 points, an odd length, or anything but finite numbers.
    """
    parts = [_polygon_points(polygon, place) for place, polygon in enumerate(polygons)]
    first = np.zeros(len(parts) + 1, np.int32)
    np.cumsum([len(part) for part in parts], out=first[1:])
    points = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
    _turn_rings_to_positive_area(points, first)
    return Rings(points, first)


def rings_from_counts(counts: ArrayLike, height: int, width: int) -> Rings:
    """The outline of a run-length mask, along the cracks between pixels. Costs the area of its box, not of its image.

    Raises ValueError where the counts do not sum to height * width.
    """
    runs = _checked_counts(counts, height, width)
    left, top, right, bottom = _foreground_box(runs, height)
    padded = np.zeros((bottom - top + 2, right - left + 2), np.uint8)
    _fill_runs(runs, height, left, top, padded[1:-1, 1:-1])
    return Rings(*_trace(padded, left - 1, top - 1))


def rings_from_bitmap(mask: Shaped[ndarray, "h w"]) -> Rings:
    """The outline of the pixels that are not zero, along the cracks between pixels.

    Coordinates are integers, straight runs have no points in between, and pixels that touch at a corner alone
    belong to different rings. The winding number is 1 inside and 0 outside, so every pixel centre comes back.
    """
    return Rings(*_trace(np.pad(_binary(mask), 1), -1, -1))


def polygons_from_bitmap(mask: Shaped[ndarray, "h w"]) -> list[Float32[ndarray, "_ 2"]]:
    """The rings of `rings_from_bitmap` as one (V, 2) array each, from top to bottom; `signed_areas` tells holes.

    COCO's polygons can say no holes: an object that has some is written to COCO as run lengths.
    """
    points, first = rings_from_bitmap(mask)
    return [points[start:stop] for start, stop in pairwise(first)]


def signed_areas(rings: Rings) -> Float64[ndarray, " R"]:
    """Square pixels of each ring: positive for parts of the body, negative for holes."""
    return _signed_areas(rings.points, rings.first)


def edges_from_rings(rings: Rings) -> Float32[ndarray, "V 4"]:
    """Directed edges (x1, y1, x2, y2), one from each point to the next of its ring."""
    following = np.arange(1, len(rings.points) + 1)
    following[rings.first[1:] - 1] = rings.first[:-1]
    return np.concatenate([rings.points, rings.points[following]], axis=1)


def counts_from_string(string: str | bytes) -> UInt32[ndarray, " N"]:
    """Decode COCO's compressed run lengths: 5 bits a character, lowest first, as differences to the run two before.

    Raises ValueError for a character, a length or a run that no encoder writes.
    """
    data = string.encode("utf-8", "surrogatepass") if isinstance(string, str) else string
    counts, place, fault = _decode(np.frombuffer(data, np.uint8))
    if fault != _GOOD:
        raise ValueError(
            f"expected COCO's compressed run lengths, received a string of {len(data)} characters that is malformed "
            f"at {place}: {_STRING_FAULTS[fault]}; write the annotation's mask anew"
        )
    return counts


def string_from_counts(counts: ArrayLike) -> str:
    """Encode run lengths as COCO's compressed string."""
    runs = _unsigned(counts)
    characters = np.empty(MAX_STRING_LENGTH * len(runs), np.uint8)
    return characters[: write_string(runs, characters)].tobytes().decode("ascii")


def strings_from_counts(counts: Int[ndarray, " N"], stops: Int[ndarray, " D"]) -> list[str]:
    """Encode many masks: the runs of each follow those of the one before it up to its stop. Releases the GIL."""
    characters, ends = _write_strings(counts, stops)
    text = characters.tobytes().decode("ascii")
    return [text[start:stop] for start, stop in pairwise([0, *ends.tolist()])]


def counts_from_bitmap(mask: Shaped[ndarray, "h w"]) -> UInt32[ndarray, " N"]:
    """Run lengths of the pixels that are not zero."""
    return _count_runs(_binary(mask))


def bitmap_from_counts(counts: ArrayLike, height: int, width: int) -> Bool[ndarray, "{height} {width}"]:
    """The mask that run lengths describe. Raises ValueError where they do not sum to height * width."""
    bitmap = np.zeros((height, width), np.uint8)
    _fill_runs(_checked_counts(counts, height, width), height, 0, 0, bitmap)
    return bitmap.view(np.bool_)


def _polygon_points(polygon: ArrayLike, place: int) -> Float32[ndarray, "_ 2"]:
    try:
        with np.errstate(over="ignore"):  # becomes infinite and is refused below
            numbers = np.asarray(polygon, np.float64).astype(np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"polygon {place}: expected numbers x1, y1, x2, y2, ..., received {polygon!r:.80}") from None
    if numbers.ndim != 1 or len(numbers) % 2 or len(numbers) < 6:
        raise ValueError(
            f"polygon {place}: expected a flat list x1, y1, x2, y2, ... of at least 3 points, "
            f"received shape {numbers.shape}; remove the polygon or give it its missing points"
        )
    if not np.isfinite(numbers).all():
        where = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"polygon {place}: expected finite coordinates, received {numbers[where]} at {where}")
    return numbers.reshape(-1, 2)


def _binary(mask: ArrayLike) -> UInt8[ndarray, "h w"]:
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask of shape (height, width), received {mask.shape}; pass one object at a time")
    return np.ascontiguousarray(mask != 0).view(np.uint8)


def _unsigned(counts: ArrayLike) -> UInt32[ndarray, " N"]:
    runs = np.asarray(counts)
    if runs.ndim != 1 or not (runs.dtype.kind in "ui" or runs.size == 0):
        raise ValueError(f"expected a flat list of whole run lengths, received {runs.dtype} of shape {runs.shape}")
    if runs.size and not 0 <= int(runs.min()) <= int(runs.max()) < 2**32:
        raise ValueError(f"expected run lengths from 0 to 2**32 - 1, received {runs.min()} to {runs.max()}")
    return np.ascontiguousarray(runs, np.uint32)


def _checked_counts(counts: ArrayLike, height: int, width: int) -> UInt32[ndarray, " N"]:
    runs = _unsigned(counts)
    total = int(runs.sum(dtype=np.uint64))
    if total != height * width:
        raise ValueError(
            f"expected run lengths that sum to {height} x {width} = {height * width} pixels, received {total}; "
            "is `size` (height, width) that of the image?"
        )
    return runs


@njit(nogil=True, cache=True)
@no_type_check
def _signed_area(points, start, stop):
    # Relative to the first point: far from the origin float32 coordinates lose nothing to cancellation.
    x0, y0 = np.float64(points[start, 0]), np.float64(points[start, 1])
    twice = 0.0
    for i in range(start + 1, stop - 1):
        twice += (points[i, 0] - x0) * (points[i + 1, 1] - y0) - (points[i + 1, 0] - x0) * (points[i, 1] - y0)
    return 0.5 * twice


@njit(nogil=True, cache=True)
@no_type_check
def _signed_areas(points, first):
    areas = np.empty(len(first) - 1, np.float64)
    for r in range(len(areas)):
        areas[r] = _signed_area(points, first[r], first[r + 1])
    return areas


@njit(nogil=True, cache=True)
@no_type_check
def _turn_rings_to_positive_area(points, first):
    for r in range(len(first) - 1):
        start, stop = first[r], first[r + 1]
        if _signed_area(points, start, stop) < 0:
            points[start:stop] = points[start:stop][::-1].copy()


@njit(nogil=True, cache=True)
@no_type_check
def _trace(padded, left, top):
    """Rings of a bitmap with a margin of one background pixel whose first pixel is (top, left) of its image."""
    points = np.empty((_num_corners(padded), 2), np.float32)
    first = np.zeros(len(points) // 4 + 1, np.int32)
    seen = np.zeros(padded.shape, np.bool_)
    num_points = num_rings = 0
    # Every ring, also a hole's, runs somewhere to the right along the upper crack of a pixel.
    for i in range(1, padded.shape[0] - 1):
        for j in range(1, padded.shape[1] - 1):
            if padded[i, j] and not padded[i - 1, j] and not seen[i, j]:
                num_points = _follow(padded, seen, i, j, left, top, points, num_points)
                num_rings += 1
                first[num_rings] = num_points
    return points, first[: num_rings + 1].copy()


@njit(nogil=True, cache=True)
@no_type_check
def _num_corners(padded):
    corners = 0
    for i in range(1, padded.shape[0]):
        for j in range(1, padded.shape[1]):
            a, b, c, d = padded[i - 1, j - 1], padded[i - 1, j], padded[i, j - 1], padded[i, j]
            if (a + b + c + d) % 2:
                corners += 1
            elif a == d and a != b:
                corners += 2
    return corners


@njit(nogil=True, cache=True)
@no_type_check
def _follow(padded, seen, i, j, left, top, points, num_points):
    """Write the corners of the ring that leaves (i, j) to the right, with the object on its right hand."""
    y, x, dy, dx = i, j, 0, 1
    while True:
        points[num_points, 0], points[num_points, 1] = x + left, y + top
        num_points += 1
        while True:
            if dx == 1:
                seen[y, x] = True
            y, x = y + dy, x + dx
            right_y, right_x = dx, -dy
            if not padded[y + (dy + right_y - 1) // 2, x + (dx + right_x - 1) // 2]:
                dy, dx = right_y, right_x
                break
            if padded[y + (dy - right_y - 1) // 2, x + (dx - right_x - 1) // 2]:
                dy, dx = -right_y, -right_x
                break
        if y == i and x == j and dx == 1:
            return num_points


@njit(nogil=True, cache=True)
@no_type_check
def _foreground_box(counts, height):
    """(left, top, right, bottom) of the foreground, right and bottom exclusive; all 0 where there is none."""
    left, top, right, bottom = 0, height, 0, 0
    position = 0
    for k in range(len(counts)):
        stop = position + np.int64(counts[k])
        if k % 2 and stop > position:
            if right == 0:
                left = position // height
            right = (stop - 1) // height + 1
            one_column = position // height == right - 1
            top = min(top, position % height) if one_column else 0
            bottom = max(bottom, (stop - 1) % height + 1) if one_column else height
        position = stop
    return left, min(top, bottom), right, bottom


@njit(nogil=True, cache=True)
@no_type_check
def _fill_runs(counts, height, left, top, bitmap):
    """Set the foreground of an image `height` high in a bitmap whose first pixel is (top, left) of that image."""
    position = 0
    for k in range(len(counts)):
        stop = position + np.int64(counts[k])
        while k % 2 and position < stop:
            column = position // height
            end = min(stop, (column + 1) * height)
            for i in range(position - column * height, end - column * height):
                bitmap[i - top, column - left] = 1
            position = end
        position = stop


@njit(nogil=True, cache=True)
@no_type_check
def _count_runs(bitmap):
    height, width = bitmap.shape
    counts = np.empty(height * width + 1, np.uint32)
    num_counts, value, length = 0, 0, 0
    for j in range(width):
        for i in range(height):
            if bitmap[i, j] != value:
                counts[num_counts] = length
                num_counts, value, length = num_counts + 1, 1 - value, 0
            length += 1
    counts[num_counts] = length
    return counts[: num_counts + 1].copy()


@njit(nogil=True, cache=True)
@no_type_check
def _decode(characters):
    """(counts, place, fault): where and why decoding stopped."""
    counts = np.empty(len(characters), np.uint32)
    num_counts, value, shift = 0, np.int64(0), 0
    for place in range(len(characters)):
        bits = np.int64(characters[place]) - 48
        if bits < 0 or bits > 63:
            return counts[:0], place, _BAD_CHARACTER
        if shift > 5 * (MAX_STRING_LENGTH - 1):
            return counts[:0], place, _OUT_OF_RANGE
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= np.int64(1) << shift
        if num_counts > 2:
            value += np.int64(counts[num_counts - 2])
        if value < 0 or value >= 1 << 32:
            return counts[:0], place, _OUT_OF_RANGE
        counts[num_counts] = value
        num_counts, value, shift = num_counts + 1, np.int64(0), 0
    if shift:
        return counts[:0], len(characters), _CUT_OFF
    return counts[:num_counts].copy(), len(characters), _GOOD


@njit(nogil=True, cache=True)
@no_type_check
def write_string(counts, characters):
    """Encode `counts` into `characters`, which has room for MAX_STRING_LENGTH each; returns how many were written."""
    length = 0
    for k in range(len(counts)):
        value = np.int64(counts[k])
        if k > 2:
            value -= np.int64(counts[k - 2])
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            characters[length] = bits + 48 + (32 if more else 0)
            length += 1
    return length


@njit(nogil=True, cache=True)
@no_type_check
def _write_strings(counts, stops):
    """(all characters, where each mask's end)."""
    characters = np.empty(MAX_STRING_LENGTH * len(counts), np.uint8)
    ends = np.empty(len(stops), np.int64)
    start = length = 0
    for d in range(len(stops)):
        length += write_string(counts[start : stops[d]], characters[length:])
        start, ends[d] = stops[d], length
    return characters[:length], ends
