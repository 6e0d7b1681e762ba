"""Polygons that cross themselves."""

import numpy as np
import pytest

from maskrcnn.data.health import crossing as module
from maskrcnn.data.health.crossing import crossing
from maskrcnn.masks import Rings

SQUARE = [(0, 0), (9, 0), (9, 5), (0, 5)]
BOW = [(0, 0), (9, 5), (9, 0), (0, 5)]
TOUCHING = [(0, 0), (4, 4), (8, 0), (8, 8), (4, 4), (0, 8)]
BACK = [(0, 0), (9, 0), (4, 0), (4, 6)]


def rings(*parts):
    first = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return Rings(np.concatenate([np.array(part, np.float32) for part in parts]), first)


def star(points: int, step: int) -> list[tuple[float, float]]:
    angles = 2 * np.pi * step * np.arange(points) / points
    return np.stack([50 + 40 * np.cos(angles), 30 + 20 * np.sin(angles)], axis=1).tolist()


@pytest.mark.parametrize(
    ("ring", "crosses"),
    [(SQUARE, False), (BOW, True), (TOUCHING, False), (BACK, False), (star(101, 1), False), (star(101, 40), True)],
)
def test_edges_that_cross_count_and_edges_that_touch_do_not(ring, crosses):
    assert crossing(rings(ring), np.array([True])).tolist() == [crosses]
    assert crossing(rings(ring[::-1]), np.array([True])).tolist() == [crosses]


def test_rings_that_are_not_chosen_are_passed_over():
    parts = rings(BOW, SQUARE, BOW)
    assert crossing(parts, np.array([False, True, True])).tolist() == [False, False, True]
    assert crossing(Rings(np.zeros((0, 2), np.float32), np.zeros(1, np.int32)), np.zeros(0, bool)).tolist() == []


def test_many_rings_are_shared_out_among_threads(monkeypatch):
    monkeypatch.setattr(module, "SLICE", 2)
    parts = rings(*[BOW, SQUARE, SQUARE] * 5)
    assert crossing(parts, np.ones(15, bool)).tolist() == [True, False, False] * 5


def test_a_ring_of_100_000_points_costs_no_square_of_work():
    """A comb whose teeth all lie above each other: every edge shares a column with each other one."""
    teeth = 50_000
    comb = np.stack([np.tile([0.0, 9.0], teeth), np.repeat(np.arange(teeth), 2)], axis=1)
    comb = [*comb.tolist(), (10, teeth), (10, -1), (-1, -1)]
    assert crossing(rings(comb), np.array([True])).tolist() == [False]
