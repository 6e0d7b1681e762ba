"""Outlines of several parts and holes as one ring, for formats in which an object is one polygon.

Rings are joined by bridges: an edge from one to another and the same edge back, which enclose nothing. Parts turn one
way and holes the other, so whether a reader fills by winding number or by even-odd, the mask is the same.
"""

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy import ndarray

from maskrcnn.masks import Rings, bitmap_from_rings, rings_from_bitmap, rings_from_polygons, signed_areas, window_of

PAIRS = 1 << 20
"""Pairs of points among which the shortest bridge is looked for; of longer rings only some points are tried."""
MANY = 256
"""Rings above which each is joined to the one before it, as looking for the nearest of all would take minutes."""
Ring = Float32[ndarray, "_ 2"] | Float64[ndarray, "_ 2"]


def joined(rings: Sequence[Ring]) -> Ring:
    """All rings as one, bridged where they come close to each other. Bridges run from point to point of the rings."""
    if len(rings) > MANY:
        return _chained(rings)
    whole = rings[0]
    for ring in rings[1:]:
        here, there = _nearest(whole, ring)
        tour = np.roll(ring, -there, axis=0)
        whole = np.concatenate([whole[: here + 1], tour, tour[:1], whole[here:]])
    return whole


def cut(ring: Ring) -> list[Ring]:
    """The rings that bridges join, or the ring itself; those of fewer than three points are left out."""
    corners = [(x, y) for x, y in ring.tolist()]
    closing = _bridges(corners) if len(set(corners)) < len(corners) else {}
    found: list[list[int]] = []
    stack: list[list[int]] = [[]]
    ends: list[int] = []
    for index in range(len(corners)):
        stack[-1].append(index)
        if index in closing:
            ends.append(closing[index])
            stack.append([])
        elif ends and ends[-1] == index:
            ends.pop()
            found.append(stack.pop())
            stack[-1].pop()  # the next point is this one again
    loops = (_without_repeats(ring[loop]) for loop in [*found, *stack])
    return [loop for loop in loops if len(loop) >= 3]


def parts(ring: Ring) -> Rings:
    """The outline that a bridged ring means: each part as a polygon of its own, with its holes bridged to it.

    Where all edges run along the borders of pixels and there are holes, these are rings of their own.
    A ring inside another is a hole where it turns the other way.
    """
    loops = cut(ring)
    if len(loops) < 2:
        return rings_from_polygons([loop.ravel() for loop in loops])
    areas = np.array([_area(loop) for loop in loops])
    if (areas > 0).all() or (areas < 0).all():
        return rings_from_polygons([loop.ravel() for loop in loops])
    if len(loops) > MANY and all(along_pixels(loop) for loop in loops):
        return _drawn(ring)
    limits = np.array([(loop.min(axis=0), loop.max(axis=0)) for loop in loops], np.float64)
    owners = [_owner(index, loops, areas, limits) for index in range(len(loops))]
    bodies = [index for index in range(len(loops)) if _depth(index, owners) % 2 == 0]
    groups = [[body, *(index for index, owner in enumerate(owners) if owner == body)] for body in bodies]
    if len(bodies) < len(loops) and all(along_pixels(loop) for loop in loops):
        return _cracks([_turned(loops[index], index == group[0]) for group in groups for index in group])
    return rings_from_polygons([joined([loops[index] for index in group]).ravel() for group in groups])


def along_pixels(ring: Ring) -> bool:
    """Whether all edges of a ring are borders between pixels."""
    steps = np.abs(ring - np.roll(ring, 1, axis=0)) > 0
    return bool((ring == np.round(ring)).all() and (steps.sum(axis=1) == 1).all())


def has_holes(outline: Rings) -> bool:
    """Whether some rings turn the other way."""
    return bool((signed_areas(outline) < 0).any())


def _without_repeats(ring: Ring) -> Ring:
    return ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]


def _chained(rings: Sequence[Ring]) -> Ring:
    """All rings as one, each bridged to the one before it."""
    there: list[Ring] = []
    back: list[Ring] = []
    tour = rings[0]
    for ring in rings[1:]:
        leave, enter = _nearest(tour, ring)
        there.append(tour[: leave + 1])
        back.append(np.concatenate([tour[leave:], tour[:1]]) if back else tour[leave:])
        tour = np.roll(ring, -enter, axis=0)
    return np.concatenate([*there, tour, tour[:1], *reversed(back)])


def _drawn(ring: Ring) -> Rings:
    """The rings around the pixels that a ring along their borders covers."""
    whole = Rings(ring.astype(np.float32), np.array([0, len(ring)], np.int32))
    width, height = ring.max(axis=0).clip(1).astype(int).tolist()
    window = window_of(whole, height, width)
    found = rings_from_bitmap(bitmap_from_rings(whole, window))
    return Rings(found.points + np.array([window[1], window[0]], np.float32), found.first)


def _nearest(whole: Ring, ring: Ring) -> tuple[int, int]:
    """Indices of a point of each, near each other."""
    step = max(1, len(whole) * len(ring) // PAIRS)
    few = whole[::step]
    distances = ((few[:, None] - ring[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(here) * step, int(there)


def _bridges(corners: Sequence[Hashable]) -> dict[int, int]:
    """Where each bridge begins, and where it leads back; none where bridges cross."""
    waiting: dict[tuple[Hashable, Hashable], list[int]] = {}
    found: dict[int, int] = {}
    for index, edge in enumerate(pairwise([*corners, corners[0]])):
        back = waiting.get(edge[::-1])
        if back:
            found[back.pop()] = index
        else:
            waiting.setdefault(edge, []).append(index)
    open_ends: list[int] = []
    for index in range(len(corners)):
        if open_ends and open_ends[-1] == index:
            open_ends.pop()
        elif index in found:
            open_ends.append(found[index])
    return {} if open_ends else found


def _owner(
    index: int, loops: Sequence[Ring], areas: Float64[ndarray, " n"], limits: Float64[ndarray, "n 2 2"]
) -> int | None:
    """The smallest ring around this one that turns the other way. limits: least and greatest x and y of each."""
    low, high = limits[index]
    meets = (limits[:, 0] <= high).all(axis=1) & (limits[:, 1] >= low).all(axis=1)
    around = np.flatnonzero(meets & (areas * areas[index] < 0) & (abs(areas) > abs(areas[index])))
    for other in around[np.argsort(abs(areas[around]), kind="stable")].tolist():
        if np.mean(_inside(_middles(loops[index]), loops[other])) > 0.5:
            return int(other)
    return None


def _depth(index: int, owners: Sequence[int | None]) -> int:
    """Number of rings around one: a part has none, its holes one, an island in a hole two."""
    owner = owners[index]
    return 0 if owner is None else 1 + _depth(owner, owners)


def _middles(ring: Ring) -> Ring:
    return (ring + np.roll(ring, 1, axis=0)) / 2


def _inside(points: Ring, ring: Ring) -> Bool[ndarray, " n"]:
    """Whether each point lies inside a ring, by even-odd."""
    edges = np.stack([ring, np.roll(ring, 1, axis=0)], axis=1)
    low, high = edges[..., 1].min(axis=1), edges[..., 1].max(axis=1)
    edges = edges[(low < high) & (low <= points[:, 1].max()) & (high >= points[:, 1].min())]
    x1, y1, x2, y2 = edges.reshape(-1, 4).T
    crossings = (((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) for x, y in points)
    return np.array([np.count_nonzero(one) % 2 == 1 for one in crossings])


def _area(ring: Ring) -> float:
    return float(signed_areas(Rings(ring.astype(np.float32), np.array([0, len(ring)], np.int32)))[0])


def _turned(ring: Ring, positive: bool) -> Ring:
    return ring if (_area(ring) > 0) == positive else ring[::-1]


def _cracks(rings: Sequence[Ring]) -> Rings:
    lengths = [0, *(len(ring) for ring in rings)]
    return Rings(np.concatenate(rings).astype(np.float32), np.cumsum(lengths).astype(np.int32))
