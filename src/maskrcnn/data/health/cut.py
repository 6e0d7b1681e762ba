"""Outlines cut to their images."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from maskrcnn.data.dataset import Dataset, keep_objects
from maskrcnn.masks import Rings
from maskrcnn.masks.coordinates import narrowed

LEAST = 3
"""Points of a ring."""


def cut_outlines(data: Dataset, chosen: Bool[ndarray, " O"]) -> Dataset:
    """Cut the outlines of some objects to their images; one that lies outside altogether stays as it is."""
    if not chosen.any():
        return data
    sizes, first = data.sizes[data.owners], data.rings.first
    pieces, first_ring = [], [0]
    for row in range(len(data.labels)):
        outline = data.outline(row)
        own = np.split(outline.points, outline.first[1:-1])
        if chosen[row]:
            height, width = sizes[row].tolist()
            own = [ring for ring in (cut(ring.astype(np.float64), width, height) for ring in own) if len(ring)] or own
        pieces += own
        first_ring.append(len(pieces))
    first = np.cumsum([0, *map(len, pieces)]).astype(np.int32)
    points = narrowed(np.concatenate(pieces).astype(np.float64).ravel()).reshape(-1, 2)
    return replace(data, rings=Rings(points, first), first_ring=np.array(first_ring, np.int64))


def cut_alone(data: Dataset, chosen: Bool[ndarray, " O"]) -> Dataset:
    """Some objects alone, their outlines cut to their images."""
    kept = keep_objects(data, chosen)
    return cut_outlines(kept, np.ones(len(kept.labels), bool))


def cut(ring: Float64[ndarray, "n 2"], width: float, height: float) -> Float64[ndarray, "m 2"]:
    """The part of a ring inside [0, width] x [0, height]; nothing where it has no area there.

    Parts that only the edge joins stay joined along it. Source: Sutherland and Hodgman 1974.

    >>> cut(np.array([[-2.0, 0], [4, 0], [4, 3], [-2, 3]]), 10, 2).tolist()
    [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]]
    """
    for axis, limit, sign in ((0, 0.0, 1.0), (0, width, -1.0), (1, 0.0, 1.0), (1, height, -1.0)):
        ring = _cut_at(ring, axis, limit, sign)
        if len(ring) < LEAST:
            return ring[:0]
    return ring


def _cut_at(ring: Float64[ndarray, "n 2"], axis: int, limit: float, sign: float) -> Float64[ndarray, "m 2"]:
    """The part of a ring on one side of a line: above it on its axis for a positive sign."""
    depth = sign * (ring[:, axis] - limit)
    following, beyond = np.roll(ring, -1, axis=0), np.roll(depth, -1)
    crosses = (depth < 0) != (beyond < 0)
    share = np.divide(depth, depth - beyond, out=np.zeros_like(depth), where=crosses)[:, None]
    meeting = ring + share * (following - ring)
    meeting[:, axis] = limit
    both = np.stack([ring, meeting], axis=1).reshape(-1, 2)
    return both[np.stack([depth >= 0, crosses & (depth != 0) & (beyond != 0)], axis=1).ravel()]
