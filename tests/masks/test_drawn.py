import numpy as np

from maskrcnn.masks import Rings, bitmap_from_rings, rings_from_polygons, window_of


def test_pixels_are_inside_whose_centres_are():
    triangle = rings_from_polygons([[0, 0, 4, 0, 0, 3]])
    assert bitmap_from_rings(triangle, window_of(triangle, 5, 6)).astype(int).tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
    ]


def test_a_centre_on_the_outline_belongs_to_the_right_and_below():
    square = rings_from_polygons([[0.5, 0.5, 2.5, 0.5, 2.5, 1.5, 0.5, 1.5]])
    assert bitmap_from_rings(square, (0, 0, 3, 4)).astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_what_lies_beyond_the_image_is_cut_off():
    square = rings_from_polygons([[-5, -5, 2, -5, 2, 1, -5, 1]])
    assert window_of(square, 4, 6) == (0, 0, 1, 2)
    assert bitmap_from_rings(square, (0, 0, 1, 2)).all()
    far = rings_from_polygons([[50, 50, 60, 50, 60, 60]])
    assert bitmap_from_rings(far, window_of(far, 4, 6)).size == 0


def test_points_that_are_not_finite_draw_nothing_and_take_no_time():
    rings = Rings(np.array([[0, 0], [np.inf, 2], [np.nan, 3]], np.float32), np.array([0, 3], np.int32))
    assert not bitmap_from_rings(rings, (0, 0, 3, 3)).any()
    assert window_of(Rings(np.zeros((0, 2), np.float32), np.zeros(1, np.int32)), 3, 3) == (0, 0, 0, 0)
