import inspect
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numba.core.registry import CPUDispatcher

from maskrcnn import masks
from maskrcnn.masks import (
    bitmap_from_counts,
    counts_from_bitmap,
    counts_from_string,
    edges_from_rings,
    polygons_from_bitmap,
    rings_from_bitmap,
    rings_from_counts,
    rings_from_polygons,
    signed_areas,
    string_from_counts,
)

coco = pytest.importorskip("pycocotools.mask")

BITMAPS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))
FRAME = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)  # 3 rows, 4 columns, one hole


def winding_numbers(rings, height, width):
    """At pixel centres: directed edges that cross the ray to the left."""
    x1, y1, x2, y2 = edges_from_rings(rings).T[:, :, None, None]
    rows, columns = np.mgrid[:height, :width] + 0.5
    down, up = (y1 <= rows) & (rows < y2), (y2 <= rows) & (rows < y1)
    left = x1 + (rows - y1) * (x2 - x1) / np.where(y1 == y2, 1, y2 - y1) <= columns
    return ((up & left).astype(int) - (down & left)).sum(axis=0)


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
    for ring in polygons_from_bitmap(mask):
        step = np.roll(ring, -1, axis=0) - ring
        assert ((step != 0).sum(axis=1) == 1).all()
        assert ((step != 0)[:, 0] != (np.roll(step, 1, axis=0) != 0)[:, 0]).all()


@given(BITMAPS)
@settings(max_examples=100, deadline=None)
def test_run_lengths_and_bitmaps_give_the_same_rings(mask):
    assert is_same(rings_from_counts(counts_from_bitmap(mask), *mask.shape), rings_from_bitmap(mask))


@given(BITMAPS)
@settings(max_examples=100, deadline=None)
def test_run_lengths_and_strings_equal_those_of_pycocotools(mask):
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    counts = counts_from_bitmap(mask)
    assert string_from_counts(counts) == theirs
    assert np.array_equal(counts_from_string(theirs), counts)
    assert np.array_equal(bitmap_from_counts(counts, *mask.shape), mask)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_run_lengths_survive_the_string(counts):
    assert counts_from_string(string_from_counts(counts)).tolist() == counts


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_strings_of_plain_run_lengths_equal_those_of_pycocotools(counts):
    theirs = coco.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))
    assert string_from_counts(counts).encode() == theirs["counts"]


def test_counts_run_down_the_columns():
    mask = np.array([[0, 0, 1], [1, 0, 1]])
    assert counts_from_bitmap(mask).tolist() == [1, 1, 2, 2]
    assert counts_from_bitmap(~mask.astype(bool)).tolist() == [0, 1, 1, 2, 2]
    assert bitmap_from_counts([1, 1, 2, 2], 2, 3).tolist() == mask.astype(bool).tolist()


def test_empty_runs_in_between_are_allowed():
    assert bitmap_from_counts([1, 1, 0, 2, 2], 2, 3).sum() == 3
    assert is_same(rings_from_counts([1, 1, 0, 2, 2], 2, 3), rings_from_counts([1, 3, 2], 2, 3))


def test_a_small_object_in_a_huge_image_needs_no_bitmap_of_the_image():
    height, width = 60_000, 50_000
    counts = [height * 40_000 + 7, 2, height - 2, 2, height * 9_998 + height - 9]
    rings = rings_from_counts(counts, height, width)
    assert rings.points.tolist() == [[40_000, 7], [40_002, 7], [40_002, 9], [40_000, 9]]


def test_compressed_masks_of_the_official_results_survive_unchanged(shared_data):
    path = shared_data / "coco_golden" / "instances_val2014_fakesegm100_results.json"
    for entry in json.loads(path.read_text())[:200]:
        (height, width), string = entry["segmentation"]["size"], entry["segmentation"]["counts"]
        counts = counts_from_string(string)
        assert string_from_counts(counts) == string
        assert np.array_equal(bitmap_from_counts(counts, height, width), coco.decode(entry["segmentation"]))


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


@pytest.mark.parametrize("read", [bitmap_from_counts, rings_from_counts])
@pytest.mark.parametrize("counts", [[], [5], [3, 4], [2**32 - 1, 7]])
def test_run_lengths_that_miss_the_image_are_refused(read, counts):
    with pytest.raises(ValueError, match="sum to 2 x 3 = 6 pixels, received"):
        read(counts, 2, 3)


@pytest.mark.parametrize("counts", [[-1, 7], [2**32, 6], [0.5, 5.5], [[6]]])
def test_what_is_no_run_length_is_refused(counts):
    with pytest.raises(ValueError, match=r"expected .*run lengths"):
        bitmap_from_counts(np.array(counts), 2, 3)


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("52 3", "at 2: the characters"),
        ("52é", "at 2: the characters"),
        (b"52\xff", "at 2: the characters"),
        ("52p", "at 2: the characters"),
        ("52Q", "at 3: the string ends within a run"),
        ("5N", "at 1: .* negative"),
        ("ooooooooooooo1", "at 7: .* larger"),
        ("oooooo?", "at 6: .* larger"),
    ],
)
def test_a_malformed_string_is_refused_with_the_place_of_its_fault(string, message):
    with pytest.raises(ValueError, match=message):
        counts_from_string(string)


def test_a_stack_of_masks_is_refused():
    with pytest.raises(ValueError, match="one object at a time"):
        inspect.unwrap(counts_from_bitmap)(np.zeros((1, 2, 3)))  # without the tests' own checks of shapes


def test_every_kernel_releases_the_gil():
    kernels = [value for value in vars(masks).values() if isinstance(value, CPUDispatcher)]
    assert kernels
    assert all(kernel.targetoptions["nogil"] for kernel in kernels)
