from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats.one_ring import cut, joined, parts
from maskrcnn.masks import Rings, bitmap_from_rings, rings_from_bitmap

SQUARE = np.array([(0, 0), (4, 0), (4, 3), (0, 3)], np.float64)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0.2, 0.8))
def test_a_mask_of_parts_holes_and_islands_comes_back_from_one_ring(seed, side, share):
    mask = np.random.default_rng(seed).random((side, side + 3)) < share
    outline = rings_from_bitmap(mask)
    if not len(outline.points):
        return
    rings = np.split(outline.points.astype(np.float64), outline.first[1:-1])
    one = joined(rings)
    found = parts(one)
    whole = Rings(one.astype(np.float32), np.array([0, len(one)], np.int32))
    for rings in (found, whole):
        np.testing.assert_array_equal(bitmap_from_rings(rings, (0, 0, *mask.shape)), mask)


def test_two_squares_are_joined_where_they_are_nearest():
    one = joined([SQUARE, np.add(SQUARE, (6, 0))])
    assert one.tolist()[1:8] == [[4, 0], [6, 0], [10, 0], [10, 3], [6, 3], [6, 0], [4, 0]]
    assert sorted(ring.min(axis=0).tolist() for ring in cut(one)) == [[0, 0], [6, 0]]


def test_parts_that_share_a_point_come_apart():
    one = joined([SQUARE, np.add(SQUARE, (4, 3))])
    assert len(parts(one).first) == 3


@pytest.mark.parametrize("turn", [1, -1])
def test_a_ring_inside_is_a_hole_where_it_turns_the_other_way(turn):
    inner = (SQUARE[::turn] / 2 + 1).round(2)
    outline = parts(joined([SQUARE * 3, inner]))
    pixels = bitmap_from_rings(outline, (0, 0, 9, 12))
    assert pixels.sum() == (9 * 12 if turn == 1 else 9 * 12 - pixels[1:2, 1:3].size)


def test_a_ring_without_a_bridge_stays_as_it_is_and_a_spur_goes():
    assert cut(SQUARE)[0].tolist() == SQUARE.tolist()
    spur = np.insert(SQUARE, 2, [(4, 1), (7, 1), (4, 1)], axis=0)
    assert [len(ring) for ring in cut(spur)] == [5]


def test_what_has_fewer_than_three_points_is_no_ring():
    assert len(parts(np.array([(0, 0), (1, 1), (0, 0)], np.float64)).points) == 0


def test_bridges_that_cross_are_left_alone():
    a, b, c, d = SQUARE
    ring = np.array([a, b, c, d, b, a, d, c], np.float64)
    assert len(parts(ring).points) <= len(ring)


@pytest.mark.parametrize("kind", ["checkerboard", "dots", "noise"])
def test_thousands_of_parts_and_holes_come_back_in_no_time(kind):
    rows, columns = np.indices((130, 100))
    mask = {
        "checkerboard": (rows + columns) % 2 == 0,
        "dots": (rows % 2 == 0) & (columns % 2 == 0),
        "noise": np.random.default_rng(0).random(rows.shape) < 0.7,
    }[kind]
    outline = rings_from_bitmap(mask)
    start = process_time()
    one = joined(np.split(outline.points.astype(np.float64), outline.first[1:-1]))
    found = parts(one)
    assert process_time() - start < 3
    whole = Rings(one.astype(np.float32), np.array([0, len(one)], np.int32))
    for rings in (found, whole):
        np.testing.assert_array_equal(bitmap_from_rings(rings, (0, 0, *mask.shape)), mask)
