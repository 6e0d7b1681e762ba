import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskrcnn.masks import (
    Rings,
    counts_from_bitmap,
    counts_from_rings,
    edges_from_rings,
    outlines_from_runs,
    polygons_from_bitmap,
    rings_from_bitmap,
    rings_from_counts,
    rings_from_polygons,
    signed_areas,
)

BITMAPS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))
FRAME = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)  # 3 rows, 4 columns, one hole


def winding_numbers(rings, height, width):
    """At pixel centres: directed edges that cross the ray to the left."""
    x1, y1, x2, y2 = edges_from_rings(rings).T[:, :, None, None]
    rows, columns = np.mgrid[:height, :width] + 0.5
    down, up = (y1 <= rows) & (rows < y2), (y2 <= rows) & (rows < y1)
    left = x1 + (rows - y1) * (x2 - x1) / np.where(y1 == y2, 1, y2 - y1) <= columns
    return ((up & left).astype(int) - (down & left)).sum(axis=0)


def outlines_of(*masks):
    runs = [counts_from_bitmap(mask) for mask in masks]
    return outlines_from_runs(np.concatenate(runs), np.cumsum([len(part) for part in runs]), len(masks[0]))


def rings_apart(rings):
    return np.split(rings.points, rings.first[1:-1]) if len(rings.points) else []


def drawn_again(outline, shape):
    points, lengths = np.concatenate(outline), [len(ring) for ring in outline]
    return winding_numbers(Rings(points, np.cumsum([0, *lengths], dtype=np.int32)), *shape)


def is_in_one_piece(mask):
    """Whether all pixels are reached from one of them, side by side."""
    left = {tuple(pixel) for pixel in np.argwhere(mask).tolist()}
    waiting = [left.pop()]
    while waiting:
        i, j = waiting.pop()
        reached = left & {(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)}
        left -= reached
        waiting += reached
    return not left


def is_same(one, other):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_rectangle_is_traced_by_its_four_corners_clockwise():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    rings = rings_from_bitmap(mask)
    assert rings.points.tolist() == [[2, 1], [5, 1], [5, 3], [2, 3]]
    assert rings.first.tolist() == [0, 4]
    assert rings.points.dtype == np.float32
    assert rings.first.dtype == np.int32


def test_a_hole_runs_the_other_way_than_its_body():
    rings = rings_from_bitmap(FRAME)
    assert signed_areas(rings).tolist() == [12, -2]
    assert rings.points[4:].tolist() == [[1, 2], [3, 2], [3, 1], [1, 1]]


def test_pixels_that_touch_at_a_corner_alone_are_rings_of_their_own():
    rings = rings_from_bitmap(np.array([[1, 0, 0], [0, 1, 0]]))
    assert signed_areas(rings).tolist() == [1, 1]
    assert rings.points.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1], [1, 1], [2, 1], [2, 2], [1, 2]]


def test_a_hole_that_touches_the_outside_at_a_corner_joins_the_outer_ring():
    rings = rings_from_bitmap(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]]))
    assert signed_areas(rings).tolist() == [7]
    assert len(rings.points) == 10


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (0, 5)])
def test_an_empty_mask_has_no_rings(shape):
    rings = rings_from_bitmap(np.zeros(shape, bool))
    assert rings.points.shape == (0, 2)
    assert rings.first.tolist() == [0]
    assert edges_from_rings(rings).shape == (0, 4)
    assert polygons_from_bitmap(np.zeros(shape, bool)) == []


@given(BITMAPS)
@settings(max_examples=200, deadline=None)
def test_the_rings_of_a_bitmap_give_it_back_at_pixel_centres(mask):
    rings = rings_from_bitmap(mask)
    assert np.array_equal(winding_numbers(rings, *mask.shape), mask.astype(int))
    assert signed_areas(rings).sum() == mask.sum()


@given(BITMAPS)
@settings(max_examples=100, deadline=None)
def test_rings_turn_a_corner_at_every_point(mask):
    for ring in (*polygons_from_bitmap(mask), *rings_apart(rings_from_bitmap(mask))):
        step = np.roll(ring, -1, axis=0) - ring
        assert ((step != 0).sum(axis=1) == 1).all()
        assert ((step != 0)[:, 0] != (np.roll(step, 1, axis=0) != 0)[:, 0]).all()


@given(BITMAPS)
@settings(max_examples=100, deadline=None)
def test_run_lengths_and_bitmaps_give_the_same_rings(mask):
    assert is_same(rings_from_counts(counts_from_bitmap(mask), *mask.shape), rings_from_bitmap(mask))


def test_a_small_object_in_a_huge_image_needs_no_bitmap_of_the_image():
    height, width = 60_000, 50_000
    counts = [height * 40_000 + 7, 2, height - 2, 2, height * 9_998 + height - 9]
    rings = rings_from_counts(counts, height, width)
    assert rings.points.tolist() == [[40_000, 7], [40_002, 7], [40_002, 9], [40_000, 9]]


def test_polygons_are_turned_to_positive_area_and_keep_their_order():
    clockwise, counterclockwise = [0, 0, 4, 0, 4, 2], [9, 9, 9, 12, 14, 12]
    rings = rings_from_polygons([clockwise, counterclockwise])
    assert rings.points.tolist() == [[0, 0], [4, 0], [4, 2], [14, 12], [9, 12], [9, 9]]
    assert rings.first.tolist() == [0, 3, 6]
    assert signed_areas(rings).tolist() == [4, 7.5]


def test_no_polygons_give_no_rings():
    rings = rings_from_polygons([])
    assert rings.points.shape == (0, 2)
    assert rings.first.tolist() == [0]
    assert signed_areas(rings).shape == (0,)


def test_edges_join_each_point_to_the_next_and_the_last_to_the_first_of_its_ring():
    edges = edges_from_rings(rings_from_polygons([[0, 0, 4, 0, 4, 2], [5, 5, 7, 5, 7, 6]]))
    assert edges.tolist() == [
        [0, 0, 4, 0], [4, 0, 4, 2], [4, 2, 0, 0],
        [5, 5, 7, 5], [7, 5, 7, 6], [7, 6, 5, 5],
    ]  # fmt: skip


def test_areas_far_from_the_origin_lose_nothing():
    assert signed_areas(rings_from_polygons([[9999, 9999, 9999.5, 9999, 9999.5, 9999.5]])).tolist() == [0.125]


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([0, 0, 1, 1], "polygon 1: .* at least 3 points"),
        ([], "polygon 1: .* at least 3 points"),
        ([0, 0, 1, 1, 2], "polygon 1: .* at least 3 points"),
        ([0, 0, 1, 1, 2, 2, 3], "polygon 1: .* at least 3 points"),
        ([[0, 0], [1, 1], [2, 0]], "polygon 1: .* flat list"),
        ([0, 0, 1, float("nan"), 2, 0], "polygon 1: .* finite coordinates, received nan at 3"),
        ([0, 0, 1, 1, float("inf"), 0], "polygon 1: .* finite coordinates, received inf at 4"),
        ([0, 0, 1, 1, 1e39, 0], "polygon 1: .* finite"),
        (["a", "b", "c", "d", "e", "f"], "polygon 1: expected numbers"),
    ],
)
def test_a_malformed_polygon_is_refused_by_its_place(polygon, message):
    with pytest.raises(ValueError, match=message):
        rings_from_polygons([[0, 0, 4, 0, 4, 2], polygon])


def test_empty_runs_in_between_do_not_cut_an_outline():
    assert is_same(rings_from_counts([1, 1, 0, 2, 2], 2, 3), rings_from_counts([1, 3, 2], 2, 3))
    assert rings_from_counts([1, 1, 0, 1, 3], 3, 2).points.tolist() == [[0, 1], [1, 1], [1, 3], [0, 3]]


def test_each_hole_follows_the_body_it_lies_in():
    mask = np.zeros((9, 12), bool)
    mask[0:9, 0:7] = True
    mask[1:8, 1:6] = False  # the left body's hole, around a body
    mask[2:7, 2:5] = True
    mask[3, 3] = mask[5, 3] = False  # that has two holes, one below the other
    mask[4:6, 9:11] = True
    (outlines,) = outlines_of(mask)
    corners = [[ring[0].tolist() for ring in outline] for outline in outlines]
    assert corners == [[[0, 0], [1, 8]], [[2, 2], [3, 4], [3, 6]], [[9, 4]]]
    assert [ring.tolist() for ring in outlines[2]] == [[[9, 4], [11, 4], [11, 6], [9, 6]]]


def test_a_hole_below_another_of_the_same_body_is_found_through_it():
    mask = np.ones((7, 4), bool)
    mask[1:3, 1:3] = mask[4:6, 1] = False  # both begin in the same column
    (((body, *holes),),) = outlines_of(mask)
    assert len(body) == 4
    assert [hole[0].tolist() for hole in holes] == [[1, 3], [1, 6]]


def test_a_hole_below_a_notch_belongs_to_the_body_around_both():
    mask = np.ones((6, 5), bool)
    mask[1, 1:] = mask[3:5, 2] = False
    (((body, hole),),) = outlines_of(mask)
    assert (len(body), hole[0].tolist()) == (8, [2, 5])


def test_polygons_stand_from_top_to_bottom_and_begin_at_their_upper_left_corner():
    mask = np.array([[0, 0, 0, 1, 1], [1, 0, 0, 1, 1], [1, 1, 0, 0, 0]], bool)
    right, left = polygons_from_bitmap(mask)
    assert right.tolist() == [[3, 0], [5, 0], [5, 2], [3, 2]]
    assert left.tolist() == [[0, 1], [1, 1], [1, 2], [2, 2], [2, 3], [0, 3]]


def test_no_masks_have_no_outlines():
    assert outlines_from_runs(np.zeros(0, np.uint32), np.zeros(0, np.int64), 3) == []


@given(st.integers(1, 9), st.data())
@settings(max_examples=200, deadline=None)
def test_outlines_of_many_masks_drawn_again_are_their_pieces_to_the_last_pixel(height, data):
    shapes = st.integers(1, 9).map(lambda width: (height, width))
    masks = data.draw(st.lists(arrays(np.bool_, shapes), min_size=1, max_size=3))
    for mask, outlines in zip(masks, outlines_of(*masks), strict=True):
        pieces = [drawn_again(outline, mask.shape) for outline in outlines]
        assert np.array_equal(sum(pieces, np.zeros(mask.shape, int)), mask.astype(int))
        assert all(is_in_one_piece(piece == 1) and set(piece.flat) <= {0, 1} for piece in pieces)
        rings = [ring for outline in outlines for ring in outline]
        assert is_same(rings, rings_apart(rings_from_bitmap(mask)))


def test_larger_masks_keep_their_pieces_and_holes():
    random = np.random.default_rng(0)
    smooth = sum(np.roll(random.random((60, 90)), shift, (0, 1)) for shift in np.ndindex(4, 4))
    (outlines,) = outlines_of(smooth > 8)
    assert len(outlines) > 20
    assert max(len(outline) for outline in outlines) > 5
    pieces = [drawn_again(outline, smooth.shape) for outline in outlines]
    assert np.array_equal(sum(pieces), (smooth > 8).astype(int))
    assert all(is_in_one_piece(piece == 1) and set(piece.flat) <= {0, 1} for piece in pieces)


@settings(deadline=None)
@given(BITMAPS, st.integers(0, 2**32 - 1))
def test_rings_of_pixels_lead_back_to_their_run_lengths(mask, seed):
    other = np.random.default_rng(seed).random(mask.shape) < 0.5
    runs = [counts_from_bitmap(one) for one in (mask, other)]
    pieces = [rings_from_counts(one, *mask.shape) for one in runs]
    points = np.concatenate([piece.points for piece in pieces])
    first = np.cumsum([0, *(length for piece in pieces for length in np.diff(piece.first))], dtype=np.int32)
    middle = len(pieces[0].first) - 1
    counts, stops = counts_from_rings(
        Rings(points, first), np.array([[middle, len(first) - 1], [0, middle]]), *mask.shape
    )
    assert [one.tolist() for one in np.split(counts, stops[:-1])] == [runs[1].tolist(), runs[0].tolist()]
