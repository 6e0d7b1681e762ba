"""Overlaps are COCO's to the last bit, and damaged masks are noticed."""

import numpy as np
import pytest
from hotcoco import mask as rle

from maskrcnn.evaluate.overlaps import box_overlaps, mask_overlaps, runs_from_strings
from maskrcnn.masks import counts_from_bitmap, string_from_counts

HEIGHT, WIDTH = 12, 17


def strings(bitmaps):
    return [string_from_counts(counts_from_bitmap(bitmap)) for bitmap in bitmaps]


def test_foreground_is_counted_down_the_columns():
    masks = [np.array([[0, 1, 1], [1, 0, 1]]), np.zeros((2, 3)), np.ones((2, 3))]
    runs = runs_from_strings(strings(masks), [6, 6, 6])
    assert runs.edges.tolist() == [1, 3, 4, 6, 0, 6]
    assert runs.stops.tolist() == [0, 4, 4, 6]
    assert runs.areas.tolist() == [4, 0, 6]


def test_no_masks_have_no_foreground():
    assert [column.tolist() for column in runs_from_strings([], [])] == [[], [0], []]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\x01", "a character below those of the code"),
        ("p0", "one above them"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "one of another alphabet"),
        ("o", "a negative run"),
        ("P", "the end within a run"),
        ("PPPPPPPPP0", "a run of more than 33 bits"),
        ("d6", "more pixels than the image has"),
    ],
)
def test_damaged_run_lengths_are_none(text, fault):
    good = strings([np.eye(HEIGHT, WIDTH)])[0]
    assert runs_from_strings([good, text, good], [HEIGHT * WIDTH] * 3) is None, fault
    assert runs_from_strings([good, good], [HEIGHT * WIDTH] * 2) is not None


def test_overlaps_of_masks_are_those_of_coco():
    random = np.random.default_rng(3)
    found = [random.random((HEIGHT, WIDTH)) < share for share in (0.1, 0.5, 0.9, 0.0, 1.0)]
    objects = [random.random((HEIGHT, WIDTH)) < share for share in (0.3, 0.0, 0.6, 1.0)]
    objects += [np.indices((HEIGHT, WIDTH))[1] == WIDTH - 1]  # the last column alone
    is_crowd = np.array([False, True, True, False, False])
    encoded = [[{"size": [HEIGHT, WIDTH], "counts": text} for text in strings(side)] for side in (found, objects)]
    expected = rle.iou(*encoded, is_crowd)
    runs = [runs_from_strings(strings(side), [HEIGHT * WIDTH] * 5) for side in (found, objects)]
    rows = np.array([4, 0, 2])
    assert np.array_equal(mask_overlaps(runs[0], rows, runs[1], is_crowd, 1, 5), expected[rows, 1:5])


def test_overlaps_of_boxes_are_those_of_coco():
    random = np.random.default_rng(4)
    found, objects = (random.uniform(0, 9, (number, 4)).round(1) for number in (6, 5))
    found[1] = objects[2]
    found[3, 2] = 0.0  # no width
    is_crowd = np.array([False, True, False, True, False])
    expected = rle.iou(found, objects, is_crowd)
    rows = np.array([5, 1, 3, 0])
    assert np.array_equal(box_overlaps(found, rows, objects, is_crowd, 0, 4), expected[rows, :4])
