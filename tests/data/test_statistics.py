"""What a data set is like, in numbers worked out by hand."""

import math

import numpy as np
import pytest

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco
from maskrcnn.data.statistics import (
    band,
    class_rows,
    count_colours,
    greatest_overlaps,
    object_areas,
    size_classes,
    spread,
    statistics,
)


@pytest.fixture
def data(write_split, annotate) -> Dataset:
    """Three images: two cups that overlap and a crowd, a large cat and a cup, nothing."""
    rows = [
        annotate(1, 1),
        annotate(2, 1, bbox=[20, 5, 20, 20], segmentation=[[20, 5, 40, 5, 40, 25, 20, 25]], area=None),
        annotate(3, 1, bbox=[0, 0, 60, 40], area=2400, iscrowd=1),
        annotate(4, 2, category_id=3, bbox=[0, 0, 100, 100], segmentation=[[0, 0, 100, 0, 100, 100]], area=None),
        annotate(5, 2, bbox=[50, 0, 50, 100], segmentation=[], area=None),
    ]
    return coco.read(*write_split(rows, sizes=((40, 60), (100, 200), (40, 60))))


def test_an_area_is_the_stated_one_else_that_of_the_rings_else_of_the_box(data):
    assert object_areas(data).tolist() == [400, 400, 2400, 5000, 5000]


def test_holes_are_no_part_of_an_area(write_split, annotate):
    counts = [5 + 1, 3, 2, 1, 1, 1, 2, 3, 100 - 19]  # down columns of 5: three pixels, two around a hole, three
    row = annotate(1, 1, bbox=[1, 1, 3, 3], segmentation={"size": [5, 20], "counts": counts}, area=None)
    assert object_areas(coco.read(*write_split([row], sizes=((5, 20),)))).tolist() == [8]


def test_sizes_are_cocos():
    assert size_classes(np.array([0, 1023.9, 1024, 9215.9, 9216, 1e9])).tolist() == [0, 0, 1, 1, 2, 2]


def test_overlaps_are_of_boxes_in_the_same_image_without_crowds(data):
    found = greatest_overlaps(data, data.learnt & ~data.crowd)
    third = np.float32(1 / 3)  # 10 x 20 of two 20 x 20 boxes
    np.testing.assert_allclose(found, [[third, third], [third, third], [0, 0], [0.5, 0], [0.5, 0]], rtol=1e-6)


def test_classes_are_counted_with_their_images_and_sizes(data):
    counted = data.learnt & ~data.crowd
    cat, cup = class_rows(data, counted, np.sqrt(object_areas(data)[counted]))
    assert (cat.name, cat.objects, cat.images, cat.sizes) == ("cat", 1, 1, (0, 1, 0))
    assert (cup.name, cup.objects, cup.images, cup.sizes) == ("cup", 3, 2, (2, 1, 0))
    assert (cup.median_side, cat.median_side) == (20, math.sqrt(5000))


def test_a_split_is_summed_up(data):
    told = statistics(data)
    assert (told.images, told.objects, told.crowd_regions, told.not_learnt, told.without_objects) == (3, 4, 1, 0, 1)
    assert told.common_sizes == [(60, 40, 2), (200, 100, 1)]
    assert told.columns.objects_per_image.tolist() == [2, 2, 0]
    np.testing.assert_allclose(told.columns.shares, [20 / math.sqrt(2400)] * 2 + [0.5] * 2)
    assert (told.bands, told.colours.shape) == ([], (0, 256))


def test_a_split_without_objects_has_numbers_too(write_split):
    told = statistics(coco.read(*write_split([])))
    assert (told.objects, told.without_objects) == (0, 1)
    assert [row.objects for row in told.classes] == [0, 0]
    assert math.isnan(spread(told.columns.sides).median)


def test_a_spread_is_made_of_percentiles():
    assert spread(np.arange(0, 201, 2)) == (0, 10, 100, 190, 200, 100)


def test_colours_are_counted_in_each_band():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, :, 1] = 200
    image[1, 2] = (10, 20, 30)
    red, green, blue = count_colours([image, image[:1]])
    assert (red[0], red[10]) == (8, 1)
    assert (green[0], green[20], green[200]) == (2, 1, 6)
    assert (blue[0], blue[30]) == (8, 1)
    assert band(green) == (
        0,
        0,
        200,
        200,
        200,
        pytest.approx(1220 / 9),
        pytest.approx(math.sqrt(240_400 / 9 - (1220 / 9) ** 2)),
    )
    assert count_colours([]).shape == (0, 256)
