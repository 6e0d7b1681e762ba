"""Spans say what run lengths say, and unite, meet and measure as bitmaps do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.masks import bitmap_from_counts, counts_from_bitmap
from maskrcnn.masks.spans import (
    NO_SPANS,
    area,
    bitmap_from_spans,
    bounds_of_spans,
    common,
    counts_from_spans,
    inside,
    spans_from_counts,
    united,
)

HEIGHT, WIDTH = 7, 5
bitmaps = st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH).map(
    lambda bits: np.array(bits).reshape(HEIGHT, WIDTH)
)


def spans_of(bitmap, corner=(0, 0)):
    return spans_from_counts(counts_from_bitmap(bitmap), len(bitmap), corner)


def test_a_span_is_a_stretch_of_one_column():
    bitmap = np.zeros((4, 3), bool)
    bitmap[2:, 0] = bitmap[:2, 1] = bitmap[3, 1] = True  # the first two are one run
    assert spans_of(bitmap).tolist() == [[0, 2, 4], [1, 0, 2], [1, 3, 4]]
    assert spans_of(bitmap, (10, 20)).tolist() == [[10, 22, 24], [11, 20, 22], [11, 23, 24]]
    assert bounds_of_spans(spans_of(bitmap)) == (0, 0, 2, 4)


@settings(max_examples=60, deadline=None)
@given(bitmaps, bitmaps)
def test_spans_do_what_bitmaps_do(a, b):
    mine, other = spans_of(a), spans_of(b)
    assert counts_from_spans(mine, HEIGHT, WIDTH).tolist() == counts_from_bitmap(a).tolist()
    assert area(mine) == a.sum()
    assert common(mine, other) == (a & b).sum()
    assert (bitmap_from_counts(counts_from_spans(united([mine, other]), HEIGHT, WIDTH), HEIGHT, WIDTH) == a | b).all()
    assert (bitmap_from_spans(mine, (1, 2, 5, 6)) == a[2:6, 1:5]).all()
    assert area(inside(mine, np.array([1, 2, 5, 6]))) == a[2:6, 1:5].sum()


def test_masks_of_a_huge_image_take_no_more_room_than_their_runs():
    side = 40_000
    mask = np.array([[side - 1, 0, side], [side - 1, 0, side]], np.int32)[:1]
    counts = counts_from_spans(mask, side, side)
    assert counts.tolist() == [side * (side - 1), side]
    assert spans_from_counts(counts, side).tolist() == mask.tolist()


@pytest.mark.parametrize(
    "mask", [NO_SPANS, np.array([[0, 0, 7]], np.int32), np.array([[0, 0, 7], [1, 0, 7]], np.int32)]
)
def test_empty_and_full_masks_come_back(mask):
    counts = counts_from_spans(mask, 7, 2)
    assert counts.sum() == 14
    assert spans_from_counts(counts, 7).tolist() == mask.tolist()
    assert area(united([mask])) == area(mask)
