import numpy as np
import pytest

from maskrcnn.masks import Rings, bitmap_from_rings, rings_from_bitmap, signed_areas, simplified, window_of


def ellipse(height, width):
    row, column = np.mgrid[:height, :width] + 0.5
    return ((row / height * 2 - 1) ** 2 + (column / width * 2 - 1) ** 2) < 1


def drawn(rings, height, width):
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return np.asarray(bitmap_from_rings(rings, window_of(Rings(corners, np.array([0, 4], np.int32)), height, width)))


def iou(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize(
    ("height", "width", "tolerance", "most_points"), [(16, 12, 0.45, 20), (40, 60, 0.75, 26), (160, 120, 1.0, 40)]
)
def test_few_points_draw_nearly_the_same_mask(height, width, tolerance, most_points):
    mask = np.pad(ellipse(height, width), 3)
    exact = rings_from_bitmap(mask)
    few = simplified(exact, tolerance)
    assert len(few.points) <= most_points < len(exact.points)
    assert iou(drawn(few, *mask.shape), mask) > 0.97
    assert signed_areas(few)[0] > 0


def test_a_rectangle_keeps_its_corners():
    mask = np.zeros((9, 14), bool)
    mask[2:7, 3:12] = True
    few = simplified(rings_from_bitmap(mask), 1.0)
    assert sorted(map(tuple, few.points.tolist())) == [(3, 2), (3, 7), (12, 2), (12, 7)]


def test_steps_become_a_line_through_the_middle_of_their_sides():
    few = simplified(rings_from_bitmap(np.tri(40, dtype=bool)), 0.3)
    assert sorted(map(tuple, few.points.tolist())) == [(0, 0.5), (0, 40), (0.5, 0), (39.5, 40), (40, 39.5)]


def test_each_ring_is_simplified_by_itself():
    mask = np.zeros((30, 50), bool)
    mask[2:20, 3:19], mask[8:12, 9:13], mask[24, 40] = ellipse(18, 16), False, True
    exact, few = rings_from_bitmap(mask), simplified(rings_from_bitmap(mask), 0.5)
    assert len(few.first) == len(exact.first) == 4
    np.testing.assert_array_equal(np.sign(signed_areas(few)), np.sign(signed_areas(exact)))
    assert iou(drawn(few, 30, 50), mask) > 0.95


def test_no_ring_loses_all_its_points_or_is_made_up():
    mask = np.zeros((5, 7), bool)
    assert len(simplified(rings_from_bitmap(mask), 1.0).points) == 0
    mask[2, 3] = True
    few = simplified(rings_from_bitmap(mask), 5.0)
    assert (len(few.points), few.first.tolist()) == (4, [0, 4])
