"""A view is an affine map, and comes back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.view import (
    View,
    compose,
    cuts,
    extents_of,
    inverse,
    matrix,
    move_boxes,
    move_points,
    move_segments,
    surround_boxes,
)

SIDES = st.floats(0.25, 3000, width=32)
PLACES = st.floats(-3000, 3000, width=32)


ANGLES = st.none() | st.floats(-180, 180, width=32)


@st.composite
def views(draw, angles=ANGLES):
    left, top = draw(PLACES), draw(PLACES)
    window = [left, top, left + draw(SIDES), top + draw(SIDES)]
    size = [draw(st.integers(1, 2000)), draw(st.integers(1, 2000))]
    turns = draw(st.none() | st.integers(0, 3))
    return View(
        torch.tensor([window]),
        torch.tensor([size]),
        torch.tensor([draw(st.booleans())]),
        turns if turns is None else torch.tensor([turns]),
        None if (angle := draw(angles)) is None else torch.tensor([angle]),
    )


def view_of(window, size, mirrored=False, turns=None, angle=None):
    turned, at = (None if value is None else torch.tensor([value]) for value in (turns, angle))
    return View(torch.tensor([window]), torch.tensor([size]), torch.tensor([mirrored]), turned, at)


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
@given(views(st.none()))
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


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0.0, [32.0, 6.0]),  # 4 right of the window's centre, (14, 23), scaled by 4 and 2
        (90.0, [16.0, -2.0]),  # above the centre: 4 pixels of the image, as high as 8 of the result
        (-90.0, [16.0, 14.0]),
        (30.0, [16 + 16 * 0.75**0.5, 6 - 4.0]),
    ],
)
def test_an_image_is_turned_about_its_windows_centre_before_it_is_cut(angle, expected):
    view = view_of(WINDOW, [12, 32], angle=angle)
    assert move_points(matrix(view), torch.tensor([[[18.0, 23.0]]]))[0, 0].tolist() == pytest.approx(expected, abs=1e-4)
    mirrored = view._replace(mirrored=torch.tensor([True]))
    there = move_points(matrix(mirrored), torch.tensor([[[18.0, 23.0]]]))[0, 0].tolist()
    assert there == pytest.approx([32 - expected[0], expected[1]], abs=1e-4), "turned first, then mirrored"


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_square_turned_by_90_degrees_is_turned_a_quarter(turns):
    window = [3.0, 4.0, 11.0, 12.0]
    found = matrix(view_of(window, [20, 20], angle=90.0 * turns))
    torch.testing.assert_close(found, matrix(view_of(window, [20, 20], turns=turns)), atol=1e-4, rtol=0)


def test_maps_are_composed_in_order():
    first, second = (matrix(view_of(WINDOW, [12, 32], angle=angle, turns=2)) for angle in (20.0, None))
    point = torch.tensor([[[3.0, 7.0]]])
    torch.testing.assert_close(
        move_points(compose(second, first), point), move_points(second, move_points(first, point))
    )


def test_boxes_at_an_angle_are_surrounded():
    to = matrix(view_of([0.0, 0.0, 8.0, 8.0], [8, 8], angle=45.0))
    found = surround_boxes(to, torch.tensor([[[2.0, 2.0, 6.0, 6.0]]]))
    half = 2 * 2**0.5
    torch.testing.assert_close(found, torch.tensor([[[4 - half, 4 - half, 4 + half, 4 + half]]]))


def test_extents_are_those_along_the_images_own_axes():
    assert extents_of(view_of(WINDOW, [12, 32])).tolist() == [[32, 12]]
    assert extents_of(view_of(WINDOW, [32, 12], turns=1)).tolist() == [[32, 12]]


@pytest.mark.parametrize(
    ("window", "angle", "expected"),
    [
        ([0.0, 0.0, 60.0, 40.0], None, False),
        ([-9.0, 0.0, 80.0, 41.0], None, False),  # reaches beyond the image: nothing is missing
        ([0.0, 0.0, 59.6, 40.0], None, False),  # 0.4 pixels are 0.8 of the result
        ([0.0, 0.0, 59.4, 40.0], None, True),
        ([0.0, 3.0, 60.0, 43.0], None, True),
        ([0.0, 0.0, 60.0, 40.0], 0.0, False),
        ([0.0, 0.0, 60.0, 40.0], 5.0, True),
    ],
)
def test_a_view_cuts_where_a_pixel_of_its_result_is_missing(window, angle, expected):
    size = [round(2 * (window[3] - window[1])), round(2 * (window[2] - window[0]))]
    originals = torch.tensor([[40, 60]])
    assert cuts(view_of(window, size, angle=angle), originals).tolist() == [expected]
    assert cuts(view_of(window, size[::-1], turns=3, angle=angle), originals).tolist() == [expected]
