import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from hypothesis.strategies import integers

from maskrcnn.masks import bitmap_from_rings, masks_of_ids, parts_of_bitmap, rings_from_bitmap, window_of
from maskrcnn.masks.ids import MOST_IN_TABLE

IDS = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=integers(0, 5))


@given(IDS)
@settings(max_examples=100, deadline=None)
def test_the_masks_of_ids_are_their_pixels(ids):
    found = np.zeros_like(ids)
    seen = []
    for id, mask, (top, left) in masks_of_ids(ids):
        seen.append(id)
        assert mask.any(axis=0)[[0, -1]].all()
        assert mask.any(axis=1)[[0, -1]].all()
        found[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = id
    assert np.array_equal(found, ids)
    assert seen == sorted(set(ids[ids > 0].tolist()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_ids_of_all_widths_and_another_background_are_told_apart(dtype):
    large = {np.uint8: 255, np.uint16: 65535, np.int64: MOST_IN_TABLE**2}[dtype]
    ids = np.array([[0, 0, 7], [large, 0, 7]], dtype)
    assert [(id, mask.tolist(), origin) for id, mask, origin in masks_of_ids(ids, background=7)] == [
        (0, [[True, True], [False, True]], (0, 0)),
        (large, [[True]], (1, 0)),
    ]


def test_no_pixels_have_no_ids():
    assert list(masks_of_ids(np.zeros((0, 4), np.uint8))) == []
    assert list(masks_of_ids(np.zeros((3, 4), np.uint8))) == []


def test_parts_that_touch_at_a_corner_hang_together():
    mask = np.array([[1, 0, 1, 0, 1], [0, 0, 1, 0, 1], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]])
    expected = [[1, 0, 2, 0, 3], [0, 0, 2, 0, 3], [2, 2, 0, 0, 3], [0, 0, 0, 0, 0], [0, 4, 4, 4, 4]]
    assert parts_of_bitmap(mask).tolist() == expected


def test_arms_of_a_comb_are_one_part():
    mask = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]])
    assert np.array_equal(parts_of_bitmap(mask), mask)


@given(IDS)
@settings(max_examples=100, deadline=None)
def test_an_outline_draws_the_bitmap_that_it_was_made_of(ids):
    mask = ids > 2
    rings = rings_from_bitmap(mask)
    assert np.array_equal(bitmap_from_rings(rings, (0, 0, *mask.shape)), mask)
    top, left, bottom, right = window = window_of(rings, *mask.shape)
    assert np.array_equal(bitmap_from_rings(rings, window), mask[top:bottom, left:right])
    assert mask.sum() == mask[top:bottom, left:right].sum()
