"""Polygons that cross themselves."""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from maskrcnn.kernels import kernel
from maskrcnn.masks import Rings

MOST_TESTS = 1_000_000
"""Pairs of edges of one ring that are looked at: of a longer search, what was found by then."""
MOST_TESTS_IN_ALL = 2_000_000_000
"""Pairs of edges of all rings: some seconds."""


def crossing(rings: Rings, chosen: Bool[ndarray, " R"]) -> Bool[ndarray, " R"]:
    """Which of the chosen rings have two edges that cross; edges that touch or overlap do not count."""
    found = np.zeros(len(chosen), np.bool_)
    _cross_all(rings.points, rings.first.astype(np.int64), np.flatnonzero(chosen), found)
    return found


@kernel()
@no_type_check
def _cross_all(points, first, chosen, found):
    left = np.int64(MOST_TESTS_IN_ALL)
    for k in range(len(chosen)):
        ring = chosen[k]
        found[ring], tests = _crosses(points[first[ring] : first[ring + 1]], min(left, MOST_TESTS))
        left -= tests
        if left <= 0:
            return


@kernel()
@no_type_check
def _crosses(points, most):
    """(whether two edges of a ring cross, how many pairs were looked at): only pairs that share some column are."""
    n = len(points)
    low, high = np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(n):
        j = (i + 1) % n
        low[i], high[i] = min(points[i, 0], points[j, 0]), max(points[i, 0], points[j, 0])
    order = np.argsort(low)
    tests = np.int64(0)
    for a in range(n):
        i = order[a]
        for b in range(a + 1, n):
            j = order[b]
            if low[j] >= high[i] or tests >= most:
                break
            tests += 1
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
