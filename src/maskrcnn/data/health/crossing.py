"""Polygons that cross themselves."""

from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

from maskrcnn.kernels import kernel
from maskrcnn.masks import Rings

MOST_TESTS = 1_000_000
"""Pairs of edges of one ring that are looked at: of a longer search, what was found by then."""
MOST_TESTS_IN_ALL = 2_000_000_000
"""Pairs of edges of all rings: some seconds."""

SLICE, THREADS = 16_384, 4
"""Rings that a thread takes at once."""


def crossing(rings: Rings, chosen: Bool[ndarray, " R"]) -> Bool[ndarray, " R"]:
    """Which of the chosen rings have two edges that cross; edges that touch or overlap do not count."""
    found = np.zeros(len(chosen), np.bool_)
    first, rows = rings.first.astype(np.int64), np.flatnonzero(chosen)
    parts = np.array_split(rows, max(1, len(rows) // SLICE))

    def look(part: Int64[ndarray, " n"]) -> None:
        _cross_all(rings.points, first, part, found, MOST_TESTS_IN_ALL // len(parts))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(look, parts))  # which raises what a thread raised
    return found


@kernel()
@no_type_check
def _cross_all(points, first, chosen, found, most):
    for k in range(len(chosen)):
        ring = chosen[k]
        found[ring], tests = _crosses(points[first[ring] : first[ring + 1]], min(most, MOST_TESTS))
        most -= tests
        if most <= 0:
            return


@kernel()
@no_type_check
def _crosses(points, most):
    """(whether two edges of a ring cross, how many pairs were looked at): only those that share a column and a row."""
    n = len(points)
    left, right, top, bottom = (
        np.empty(n, np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
    )
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        left[i], right[i] = min(points[i, 0], points[j, 0]), max(points[i, 0], points[j, 0])
        top[i], bottom[i] = min(points[i, 1], points[j, 1]), max(points[i, 1], points[j, 1])
    order = np.argsort(left)
    tests = np.int64(0)
    for a in range(n):
        i = order[a]
        for b in range(a + 1, n):
            j = order[b]
            if left[j] >= right[i] or tests >= most:
                break
            tests += 1
            if top[j] >= bottom[i] or top[i] >= bottom[j]:
                continue
            if _cross(points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]):
                return True, tests
    return False, tests


@kernel()
@no_type_check
def _cross(a, b, c, d):
    """Whether ab and cd cross between their ends."""
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


@kernel()
@no_type_check
def _side(a, b, c):
    """On which side of the line ab the point c lies: the sign of a product of exact differences."""
    x, y = np.float64(b[0]) - a[0], np.float64(b[1]) - a[1]
    return np.sign(x * (np.float64(c[1]) - a[1]) - y * (np.float64(c[0]) - a[0]))
