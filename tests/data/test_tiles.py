"""Images cut into tiles: what each tile shows of the objects, and that a tile is an image like any other."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.config import Data
from maskrcnn.data import buckets, tiles
from maskrcnn.data.annotation_store import AnnotationStore, Padding
from maskrcnn.data.formats import coco
from maskrcnn.data.loader import Loader
from maskrcnn.masks import Rings, clip_rings, clipped

SETTINGS = Data(tile=40, tile_overlap=0.25, short_sides=(20,), max_side=20, num_workers=0)


def polygon(*box):
    x1, y1, x2, y2 = box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}


@pytest.fixture
def data(write_split, annotate):
    """An image of 40 x 100 with tiles at x = 0, 30 and 60, and one that is smaller than a tile."""
    boxes = [(2, 3, 12, 13), (32, 5, 52, 15), (20, 20, 56, 30), (90, 30, 99, 39)]
    rows = [annotate(number, **polygon(*box)) for number, box in enumerate(boxes, 1)]
    return coco.read(*write_split(rows, sizes=[(40, 100), (30, 25)]))


def test_tiles_cover_an_image_and_overlap_by_at_least_their_share():
    for length in (1, 39, 40, 41, 70, 71, 100, 1003):
        begins = tiles.starts(length, 40, 0.25)
        assert begins[0] == 0
        assert begins[-1] == max(0, length - 40)
        assert (np.diff(begins) <= 30).all()
    found = tiles.cut_images(np.array([[40, 100], [30, 25]]), 40, 0.25)
    assert found.images.tolist() == [0, 0, 0, 1]
    assert found.windows.tolist() == [[0, 0, 40, 40], [30, 0, 70, 40], [60, 0, 100, 40], [0, 0, 25, 30]]


def test_a_tile_has_what_it_shows_of_the_objects(data):
    cut = tiles.cut_data(data, SETTINGS)
    assert cut.sizes.tolist() == [[40, 40], [40, 40], [40, 40], [30, 25]]
    assert [cut.annotation_ids[cut.objects(tile)].tolist() for tile in range(4)] == [[1, 2, 3], [2, 3], [4], []]
    assert cut.boxes[cut.objects(0)].tolist() == [[2, 3, 12, 13], [32, 5, 40, 15], [20, 20, 40, 30]]
    assert cut.boxes[cut.objects(1)].tolist() == [[2, 5, 22, 15], [0, 20, 26, 30]]
    assert cut.boxes[cut.objects(2)].tolist() == [[30, 30, 39, 39]]
    assert cut.areas.tolist() == [100, 80, 200, 200, 260, 81]
    assert cut.outline(3).points.tolist() == [[2, 5], [22, 5], [22, 15], [2, 15]]
    assert cut.image_ids.tolist() == [1, 1, 1, 2]
    assert cut.parts.sizes.tolist() == [[40, 100]] * 3 + [[30, 25]]


def test_an_object_that_lies_mostly_elsewhere_is_neither_learnt_nor_background(write_split, annotate):
    boxes = [(36, 0, 60, 10), (0, 0, 100, 40), (33, 20, 44, 30)]  # 17 %, 40 % and 64 % of them in the first tile
    rows = [annotate(number, **polygon(*box)) for number, box in enumerate(boxes, 1)]
    cut = tiles.cut_data(coco.read(*write_split(rows, sizes=[(40, 100)])), SETTINGS)
    assert cut.crowd[cut.objects(0)].tolist() == [True, False, False]
    assert cut.crowd[cut.objects(1)].tolist() == [False, False, False]
    targets = AnnotationStore(cut, torch.device("cpu")).gather(torch.tensor([0]), Padding(4, 16))
    assert targets.crowd[0].tolist() == [True, False, False, False]
    assert targets.first_edge[0].tolist() == [0, 0, 4, 8, 8]


def test_a_part_of_an_object_larger_than_a_tile_is_learnt_however_small_a_share_it_is(write_split, annotate):
    rows = [annotate(1, **polygon(0, 0, 400, 400))]
    cut = tiles.cut_data(coco.read(*write_split(rows, sizes=[(400, 400)])), SETTINGS)
    assert not cut.crowd.any()
    assert cut.boxes.tolist() == [[0, 0, 40, 40]] * len(cut.sizes)


def test_the_box_of_a_cut_object_is_that_of_what_is_left_of_its_outline():
    triangle = Rings(np.float32([[0, 0], [40, 0], [0, 20]]), np.int32([0, 3]))
    boxes, areas = clipped(
        triangle, np.array([[0, 1]] * 4), np.float32([[20, 0, 60, 40], [0, 5, 50, 9], [50, 0, 60, 9], [0, 0, 40, 20]])
    )
    assert boxes.tolist() == [[20, 0, 40, 10], [0, 5, 30, 9], [0, 0, 0, 0], [0, 0, 40, 20]]
    assert areas.tolist() == [100, 104, 0, 400]


def test_a_hole_that_fills_a_window_leaves_nothing():
    body, hole = [[0, 0], [90, 0], [90, 90], [0, 90]], [[10, 10], [10, 80], [80, 80], [80, 10]]
    rings = Rings(np.float32(body + hole), np.int32([0, 4, 8]))
    _, areas = clipped(rings, np.array([[0, 2], [0, 2]]), np.float32([[20, 20, 60, 60], [0, 0, 20, 20]]))
    assert areas.tolist() == [0, 300]


def test_an_epoch_has_all_tiles_with_objects_and_as_many_without_as_the_settings_want(write_split, annotate):
    cut = tiles.cut_data(coco.read(*write_split([annotate()], sizes=[(100, 400)])), SETTINGS)
    every = buckets.whole_images(cut.sizes)
    has_objects = np.diff(cut.first_object) > 0
    assert (len(has_objects), has_objects.sum()) == (39, 1)
    for wanted, number in ((0.0, 1), (0.5, 2), (3.0, 4), (100.0, 39)):
        settings = Data(tile=40, tile_empty=wanted)
        epochs = [tiles.with_few_empty(every, cut, settings, seed=1, epoch=epoch).images for epoch in range(3)]
        assert all(len(images) == number and has_objects[images].sum() == 1 for images in epochs)
        assert (len({tuple(images) for images in epochs}) > 1) == (0 < number - 1 < 38)


def test_a_data_set_without_tiles_stays_as_it_is(data):
    assert tiles.cut_data(data, Data()) is data
    samples = buckets.whole_images(data.sizes)
    assert tiles.with_few_empty(samples, data, Data(), seed=1, epoch=0) is samples


@pytest.mark.parametrize("workers", [0, 2])
def test_a_tile_is_read_as_an_image_that_shows_this_part(data, workers):
    cut = tiles.cut_data(data, SETTINGS)
    samples = buckets.whole_images(cut.sizes)
    chosen = buckets.buckets_for(cut.sizes, SETTINGS, SETTINGS.short_sides)
    steps = buckets.plan_evaluation(samples, SETTINGS, chosen, batch=4)
    (batch,) = Loader(cut, steps, SETTINGS)
    whole = [np.asarray(Image.open(data.images / name)) for name in data.file_names]
    for slot, tile in enumerate(batch.indices.tolist()):
        x1, y1, x2, y2 = cut.parts.windows[tile].tolist()
        expected = whole[int(batch.image_ids[slot]) - 1][y1:y2, x1:x2]
        assert (batch.images[slot, : y2 - y1, : x2 - x1].numpy() == expected).all()
        assert batch.raw_sizes[slot].tolist() == batch.original_sizes[slot].tolist() == [y2 - y1, x2 - x1]


def test_all_tiles_have_one_scale_also_those_of_small_images(data):
    cut = tiles.cut_data(data, SETTINGS)
    view = buckets.views_of(buckets.whole_images(cut.sizes), np.full(4, 20), SETTINGS)
    assert view.sizes.tolist() == [[20, 20]] * 3 + [[15, 13]]  # half of 30 x 25


def test_outlines_end_at_their_tile(data):
    cut = tiles.cut_data(data, SETTINGS)
    for tile, (height, width) in enumerate(cut.sizes.tolist()):
        for number in range(*cut.first_object[tile : tile + 2].tolist()):
            points = cut.outline(number).points
            assert len(points) >= 3
            assert (points >= 0).all()
            assert (points <= (width, height)).all()
    assert cut.outline(1).points.tolist() == [[32, 5], [40, 5], [40, 15], [32, 15]]


def test_rings_that_no_window_shows_are_left_out():
    rings = Rings(np.float32([[0, 0], [4, 0], [4, 4], [0, 4], [8, 8], [9, 8], [9, 9]]), np.int32([0, 4, 7]))
    left, is_left = clip_rings(rings, np.array([0, 1, 1]), np.float32([[2, 1, 9, 3], [0, 0, 4, 4], [8, 8, 9, 9]]))
    assert is_left.tolist() == [True, False, True]
    assert left.first.tolist() == [0, 4, 7]
    assert left.points.tolist() == [[2, 3], [2, 1], [4, 1], [4, 3], [8, 8], [9, 8], [9, 9]]
