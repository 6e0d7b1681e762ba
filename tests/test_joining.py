"""Tiles are joined: what borders cut becomes one object, and what two tiles see is counted once."""

import numpy as np
import pytest
import torch

from maskrcnn.data.tiles import cut_images
from maskrcnn.instances import Instances
from maskrcnn.joining import Joiner
from maskrcnn.masks import counts_from_bitmap, string_from_counts

SIZE = (90, 200)
WINDOWS = cut_images(np.array([SIZE]), 80, 0.25).windows
"""Two rows of three: x = 0, 60, 120 and y = 0, 10."""


def draw(objects, window, keep=lambda number, seen: True):
    """The results of a network that finds what a tile shows of some rectangles (x1, y1, x2, y2), labels and scores."""
    found = []
    for number, (x1, y1, x2, y2, label, score) in enumerate(objects):
        left, top, right, bottom = window
        box = [max(x1, left) - left, max(y1, top) - top, min(x2, right) - left, min(y2, bottom) - top]
        if box[2] > box[0] and box[3] > box[1] and keep(number, box):
            found.append((*box, label, score))
    boxes = np.array([one[:4] for one in found], np.float32).reshape(-1, 4)
    return Instances(
        boxes,
        np.array([one[4] for one in found], np.int64),
        ["cat" if one[4] == 1 else "dog" for one in found],
        np.array([one[5] for one in found], np.float32),
        torch.zeros(len(found), 0, 0),
        (window[3] - window[1], window[2] - window[0]),
        (7, 3),
        runs=[filled(one[:4], window) for one in found],
    )


def filled(box, window):
    """A rectangle as run lengths of a tile."""
    x1, y1, x2, y2 = box
    mask = np.zeros((window[3] - window[1], window[2] - window[0]), bool)
    mask[y1:y2, x1:x2] = True
    return string_from_counts(counts_from_bitmap(mask))


def joined(objects, windows=WINDOWS, size=SIZE, order=None, **options):
    joiner = Joiner(size, windows)
    for tile in range(len(windows)) if order is None else order:
        assert not joiner.is_complete
        joiner.add(tile, draw(objects, windows[tile].tolist(), **options))
    assert joiner.is_complete
    return joiner.joined()


def bitmap(x1, y1, x2, y2):
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


OBJECTS = [
    (5, 5, 20, 30, 1, 0.9),  # in one column of tiles, seen by both rows
    (62, 20, 78, 50, 1, 0.8),  # whole in two columns
    (50, 30, 110, 60, 2, 0.7),  # whole in none of two that share it
    (10, 60, 190, 88, 1, 0.6),  # across all columns
    (150, 15, 160, 25, 2, 0.5),
]


def test_every_object_comes_once_and_whole():
    found = joined(OBJECTS)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert found.labels.tolist() == [1, 1, 2, 1, 2]
    assert found.names == ["cat", "cat", "dog", "cat", "dog"]
    assert found.size == SIZE
    for mask, box, expected in zip(found.masks, found.boxes, OBJECTS, strict=True):
        assert (mask == bitmap(*expected[:4])).all()
        assert box.tolist() == list(expected[:4])


def test_the_order_in_which_tiles_come_changes_nothing():
    first, second = joined(OBJECTS), joined(OBJECTS, order=[5, 3, 0, 1, 4, 2])
    assert first.runs == second.runs
    assert first.boxes.tolist() == second.boxes.tolist()


def test_neighbours_of_one_class_stay_apart_and_so_do_classes_in_one_place():
    objects = [(50, 20, 70, 40, 1, 0.9), (71, 20, 90, 40, 1, 0.8), (50, 20, 70, 40, 2, 0.7)]
    found = joined(objects)
    assert [(one.labels[0], one.boxes[0].tolist()) for one in found] == [
        (1, [50, 20, 70, 40]),
        (1, [71, 20, 90, 40]),
        (2, [50, 20, 70, 40]),
    ]


def test_two_objects_of_one_tile_are_never_joined_by_a_third_that_another_tile_saw_across_both():
    windows = np.array([[0, 0, 80, 90], [60, 0, 140, 90]])
    joiner = Joiner((90, 140), windows)
    joiner.add(0, draw([(62, 10, 80, 30, 1, 0.9), (62, 31, 80, 40, 1, 0.8)], windows[0].tolist()))
    joiner.add(1, draw([(62, 10, 100, 40, 1, 0.7)], windows[1].tolist()))
    assert joiner.joined().boxes.tolist() == [[62, 10, 100, 40]]  # the second part lies in it


def test_a_part_that_lies_in_a_whole_object_is_none_of_its_own():
    """A sliver of 6 pixels, drawn so badly that both tiles do not agree on it, though the whole covers it."""
    windows = np.array([[0, 0, 80, 90], [60, 0, 140, 90]])
    joiner = Joiner((90, 140), windows)
    joiner.add(0, draw([(74, 10, 80, 16, 1, 0.6)], windows[0].tolist()))
    joiner.add(1, draw([(74, 10, 100, 40, 1, 0.9)], windows[1].tolist()))
    assert joiner.joined().boxes.tolist() == [[74, 10, 100, 40]]


def test_a_small_object_on_a_large_one_of_its_class_stays_where_no_border_cuts_it():
    found = joined([(5, 5, 55, 55, 1, 0.9), (20, 20, 30, 30, 1, 0.8)])
    assert found.boxes.tolist() == [[5, 5, 55, 55], [20, 20, 30, 30]]


def test_an_object_that_one_tile_misses_is_taken_from_the_others():
    found = joined(OBJECTS[1:2], keep=lambda number, box: box[0] < 50)
    assert found.boxes.tolist() == [list(OBJECTS[1][:4])]


def test_no_objects_at_all():
    found = joined([])
    assert len(found) == 0
    assert found.size == SIZE
    assert found.to_coco() == []
    assert found.masks.shape == (0, *SIZE)


def test_joined_objects_are_instances_like_others():
    found = joined(OBJECTS)
    assert [one["category_id"] for one in found.to_coco()] == [7, 7, 3, 7, 3]
    assert found.to_coco(4)[0]["segmentation"] == {"size": list(SIZE), "counts": found.runs[0]}
    assert len(found.filter(0.65)) == 3
    assert found[[2, 0]].runs == [found.runs[2], found.runs[0]]
    assert [len(outlines) for outlines in found.polygons] == [1] * 5
    assert found.polygons[0][0][0].tolist() == [[5, 5], [20, 5], [20, 30], [5, 30]]
    assert found.draw(np.zeros((*SIZE, 3), np.uint8)).size == (600, 270)


def test_thousands_of_objects_are_all_kept():
    side = 1200
    windows = cut_images(np.array([[side, side]]), 200, 0.2).windows
    objects = [(x, y, x + 8, y + 8, 1, 0.5) for x in range(2, side - 8, 20) for y in range(2, side - 8, 20)]
    joiner = Joiner((side, side), windows)
    for tile, window in enumerate(windows.tolist()):
        joiner.add(tile, draw(objects, window))
    found = joiner.joined()
    assert len(found) == len(objects) == 3600
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(one[:4] for one in objects)
