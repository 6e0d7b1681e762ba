"""Shapes that tools draw with few numbers, as rings."""

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

EVERY = 2.0
"""Pixels of arc from one point of an ellipse to the next."""
FEWEST, MOST = 32, 360
"""Points of an ellipse: with the fewest it covers 0.994 of its area."""


def box_ring(x1: float, y1: float, x2: float, y2: float, degrees: float = 0.0) -> Float64[ndarray, "4 2"]:
    """The corners of a box, turned clockwise about its centre."""
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
    return _turned(corners, (x1 + x2) / 2, (y1 + y2) / 2, degrees) if degrees else corners


def ellipse_ring(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Float64[ndarray, "_ 2"]:
    """An ellipse about (x, y) as a polygon of the same area, turned clockwise about its centre.

    >>> ring = ellipse_ring(10, 20, 4, 2)
    >>> ring.mean(axis=0).round(6).tolist(), len(ring)
    ([10.0, 20.0], 32)
    """
    largest = max(abs(rx), abs(ry))
    number = MOST if not largest < MOST * EVERY else max(FEWEST, math.ceil(2 * math.pi * largest / EVERY))
    number = min(number, MOST)
    angles = np.arange(number) * (2 * math.pi / number)
    growth = math.sqrt(2 * math.pi / number / math.sin(2 * math.pi / number))
    with np.errstate(over="ignore"):  # what is infinite is no outline
        points = np.stack([x + growth * rx * np.cos(angles), y + growth * ry * np.sin(angles)], axis=1)
    return _turned(points, x, y, degrees) if degrees else points


def _turned(points: Float64[ndarray, "n 2"], x: float, y: float, degrees: float) -> Float64[ndarray, "n 2"]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (points - (x, y)) @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)
