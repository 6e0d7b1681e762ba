"""A view is an affine map, and comes back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.view import View, inverse, matrix, move_boxes, move_points, move_segments

SIDES = st.floats(0.25, 3000, width=32)
PLACES = st.floats(-3000, 3000, width=32)


@st.composite
def views(draw):
    left, top = draw(PLACES), draw(PLACES)
    window = [left, top, left + draw(SIDES), top + draw(SIDES)]
    size = [draw(st.integers(1, 2000)), draw(st.integers(1, 2000))]
    turns = draw(st.none() | st.integers(0, 3))
    return View(
        torch.tensor([window]),
        torch.tensor([size]),
        torch.tensor([draw(st.booleans())]),
        turns if turns is None else torch.tensor([turns]),
    )


def view_of(window, size, mirrored=False, turns=None):
    turned = None if turns is None else torch.tensor([turns])
    return View(torch.tensor([window]), torch.tensor([size]), torch.tensor([mirrored]), turned)


WINDOW, SIZE = [10.0, 20.0, 18.0, 26.0], [12, 8]
"""8 x 6 pixels that become, turned, 12 high and 8 wide."""


@pytest.mark.parametrize(
    ("turns", "mirrored", "size", "expected"),
    [
        (0, False, [12, 32], [4.0, 2.0]),  # the point 1 right of and 1 below the window's corner, scaled by 4 and 2
        (0, True, [12, 32], [28.0, 2.0]),
        (1, False, [32, 12], [2.0, 28.0]),
        (1, True, [32, 12], [10.0, 28.0]),
        (2, False, [12, 32], [28.0, 10.0]),
        (2, True, [12, 32], [4.0, 10.0]),
        (3, False, [32, 12], [10.0, 4.0]),
        (3, True, [32, 12], [2.0, 4.0]),
    ],
)
def test_a_point_is_cropped_scaled_turned_to_the_left_and_mirrored_in_that_order(turns, mirrored, size, expected):
    view = view_of(WINDOW, size, mirrored, turns)
    point = torch.tensor([[[11.0, 21.0]]])
    assert move_points(matrix(view), point)[0, 0].tolist() == expected
    assert move_points(inverse(view), move_points(matrix(view), point))[0, 0].tolist() == [11.0, 21.0]


def test_boxes_stay_upright_and_segments_keep_their_direction():
    to = matrix(view_of(WINDOW, [32, 12], turns=1))
    assert move_boxes(to, torch.tensor([[[11.0, 21.0, 12.0, 24.0]]])).tolist() == [[[2.0, 24.0, 8.0, 28.0]]]
    assert move_segments(to, torch.tensor([[[11.0, 21.0, 12.0, 24.0]]])).tolist() == [[[2.0, 28.0, 8.0, 24.0]]]


def test_each_picture_has_its_own_map():
    originals, sizes = torch.tensor([[20, 40], [30, 10]]), torch.tensor([[60, 80], [30, 40]])
    to = matrix(View.whole(originals, sizes, torch.tensor([False, True])))
    assert to.tolist() == [[[2, 0, 0], [0, 3, 0]], [[-4, 0, 40], [0, 1, 0]]]


@settings(deadline=None)
@given(views(), PLACES, PLACES)
def test_the_inverse_leads_back(view, x, y):
    point = torch.tensor([[[x, y]]], dtype=torch.float64)
    there = move_points(matrix(view, torch.float64), point)
    torch.testing.assert_close(move_points(inverse(view, torch.float64), there), point, rtol=1e-9, atol=1e-6)


@settings(deadline=None)
@given(views())
def test_the_window_becomes_the_whole_result(view):
    height, width = view.sizes[0].tolist()
    box = move_boxes(matrix(view, torch.float64), view.windows[None].double())
    expected = torch.tensor([[[0.0, 0.0, width, height]]], dtype=torch.float64)
    torch.testing.assert_close(box, expected, rtol=1e-9, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 2000), PLACES)
def test_the_map_of_a_whole_picture_is_its_scale_to_the_last_bit(height, width, rows, columns, x):
    originals, sizes = torch.tensor([[height, width]]), torch.tensor([[rows, columns]])
    point = torch.tensor([[[x, x]]])
    scale = sizes.flip(1).float() / originals.flip(1).float()
    assert torch.equal(move_points(matrix(View.whole(originals, sizes)), point)[0], point[0] * scale)
    mirrored = move_points(matrix(View.whole(originals, sizes, torch.tensor([True]))), point)[0, 0]
    assert mirrored[0] == columns - x * scale[0, 0] == columns - point[0, 0, 0] * scale[0, 0]
    back = originals.flip(1).double() / sizes.flip(1).double()
    found = move_points(inverse(View.whole(originals, sizes), torch.float64), point.double())
    assert torch.equal(found[0], point[0].double() * back)


@settings(deadline=None)
@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 9000), st.integers(1, 9000))
def test_a_whole_picture_stays_whole_in_the_frame_of_a_reduced_one(height, width, raw_height, raw_width):
    originals, raw = torch.tensor([[height, width]]), torch.tensor([[raw_height, raw_width]])
    view = View.whole(originals, torch.tensor([[5, 7]])).rescaled(originals, raw)
    assert view.windows.tolist() == [[0, 0, raw_width, raw_height]]


@pytest.mark.parametrize("turns", [None, torch.tensor([3, 0, 1])])
def test_some_views_are_taken_with_all_their_columns(turns):
    view = View(torch.rand(3, 4), torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([True, False, False]), turns)
    some = view.take(torch.tensor([2, 0]))
    assert some.sizes.tolist() == [[5, 6], [1, 2]]
    assert some.mirrored.tolist() == [False, True]
    assert (some.turns is None) if turns is None else (some.turns.tolist() == [1, 3])
