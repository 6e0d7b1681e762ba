"""Where the shapes are: signed distances from their outlines, in pixels, negative inside."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

Plane = Float64[np.ndarray, "h w"]
Window = tuple[int, int, int, int]
"""(top, left, bottom, right), the last two exclusive."""
Slices = tuple[slice, slice]


class Shape(NamedTuple):
    """One thing to draw. `group` is -1 for a bar, else the number of the annotation it belongs to."""

    outline: str
    center: tuple[float, float]
    """(x, y) in pixels."""
    radius: float
    """Pixels."""
    axis: tuple[float, float]
    """Unit vector: the direction of the shape's own x axis."""
    stretch: float
    """Factor along `axis`; the other way it is divided by it."""
    group: int


_TRIANGLE = ((0.0, -1.0), (0.8660254037844386, 0.5), (-0.8660254037844386, 0.5))
_STAR = (
    (0.0, 1.0),
    (0.9510565162951535, 0.30901699437494745),
    (0.5877852522924731, -0.8090169943749475),
    (-0.5877852522924731, -0.8090169943749475),
    (-0.9510565162951535, 0.30901699437494745),
)


def _disc(x: Plane, y: Plane, radius: float) -> Plane:
    return np.sqrt(x * x + y * y) - radius


def _square(x: Plane, y: Plane, radius: float) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - 0.8 * radius


def _triangle(x: Plane, y: Plane, radius: float) -> Plane:
    first, second, third = (nx * x + ny * y for nx, ny in _TRIANGLE)
    return np.maximum(np.maximum(first, second), third) - 0.55 * radius


def _star(x: Plane, y: Plane, radius: float) -> Plane:
    """A pentagram is where at most one of its five lines has the point on its outer side."""
    largest = second = np.full_like(x, -np.inf)
    for nx, ny in _STAR:
        along = nx * x + ny * y
        second = np.maximum(second, np.minimum(largest, along))
        largest = np.maximum(largest, along)
    return second - 0.4 * radius


def _ring(x: Plane, y: Plane, radius: float) -> Plane:
    return np.abs(np.sqrt(x * x + y * y) - 0.72 * radius) - 0.28 * radius


def _bar_outline(x: Plane, y: Plane, radius: float) -> Plane:
    return np.maximum(np.abs(x) - radius, np.abs(y) - (1.0 + 0.05 * radius))


OUTLINES: dict[str, Callable[[Plane, Plane, float], Plane]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "bar": _bar_outline,
}


def distance(shape: Shape, x: Plane, y: Plane) -> Plane:
    """Signed distance of pixel centres from the shape's outline; the zero line is exact, the rest near enough."""
    u, v = local(shape, x, y)
    return OUTLINES[shape.outline](u / shape.stretch, v * shape.stretch, shape.radius)


def local(shape: Shape, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Points of the image in the shape's own frame: from its centre, x along its axis."""
    dx, dy = x - shape.center[0], y - shape.center[1]
    return dx * shape.axis[0] + dy * shape.axis[1], dy * shape.axis[0] - dx * shape.axis[1]


def window(shape: Shape) -> Window:
    """One that surely holds the whole shape, possibly outside the image."""
    reach = shape.radius * shape.stretch * 1.35 + 2  # a star's tip is at 0.4 / 0.309 of its radius
    x, y = shape.center
    return math.floor(y - reach), math.floor(x - reach), math.ceil(y + reach), math.ceil(x + reach)


def grid(window: Window) -> tuple[Plane, Plane]:
    """(x, y) of the pixel centres in a window."""
    top, left, bottom, right = window
    rows, columns = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
    shape = (len(rows), len(columns))
    return np.broadcast_to(columns, shape), np.broadcast_to(rows[:, None], shape)


def overlap(window: Window, height: int, width: int) -> tuple[Slices, Slices]:
    """Slices of the image, and of the window, where the two meet."""
    top, left, bottom, right = window
    row, column, row_end, column_end = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
    row_end, column_end = max(row_end, row), max(column_end, column)
    target = (slice(row, row_end), slice(column, column_end))
    source = (slice(row - top, row_end - top), slice(column - left, column_end - left))
    return target, source
