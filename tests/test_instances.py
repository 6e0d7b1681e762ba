import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.config import MaskHead
from maskrcnn.instances import Instances, from_detections
from maskrcnn.masks import bitmap_from_counts, counts_from_string
from maskrcnn.structures import Detections
from maskrcnn.view import View

SIZE = (60, 100)


@pytest.fixture
def three():
    """A full square, one with its right half empty, and one of a single cell in the middle."""
    probabilities = torch.ones(3, 4, 4)
    probabilities[1, :, 2:] = 0
    probabilities[2] = 0
    probabilities[2, 1:3, 1:3] = 1
    return Instances(
        boxes=np.array([[10, 20, 30, 40], [50, 10, 90, 50], [0, 0, 16, 8]], np.float32),
        labels=np.array([2, 1, 2]),
        names=["dog", "cat", "dog"],
        scores=np.array([0.987, 0.6, 0.25], np.float32),
        probabilities=probabilities,
        size=SIZE,
        category_ids=(7, 9),
    )


def test_padding_is_removed_and_boxes_return_to_the_original_picture():
    detections = Detections(
        boxes=torch.tensor([[[10.0, 20, 30, 40], [5, 5, 6, 6]], [[-5, 0, 400, 50], [1, 2, 3, 4]]]),
        labels=torch.tensor([[2, 0], [1, 1]]),
        scores=torch.tensor([[0.9, 0.0], [0.8, 0.7]]),
        valid=torch.tensor([[True, False], [True, True]]),
        masks=torch.rand(2, 2, 4, 4),
    )
    sizes, originals = torch.tensor([[60, 100], [50, 200]]), torch.tensor([[120, 100], [25, 400]])
    first, second = from_detections(detections, View.whole(originals, sizes), originals, ["cat", "dog"])
    np.testing.assert_allclose(first.boxes, [[10, 40, 30, 80]])  # only heights are doubled
    assert (first.names, first.size) == (["dog"], (120, 100))
    np.testing.assert_allclose(second.boxes, [[0, 0, 400, 25], [2, 1, 6, 2]])  # cut to the picture
    torch.testing.assert_close(second.probabilities, detections.masks[1])


@pytest.mark.parametrize(
    ("turns", "mirrored", "box", "corner"),
    [
        (0, False, [4.0, 2, 8, 8], (0, 0)),
        (0, True, [24.0, 2, 28, 8], (0, 3)),
        (1, False, [2.0, 24, 8, 28], (3, 0)),
        (1, True, [4.0, 24, 10, 28], (3, 3)),
        (2, False, [24.0, 4, 28, 10], (3, 3)),
        (2, True, [4.0, 4, 8, 10], (3, 0)),
        (3, False, [4.0, 4, 10, 8], (0, 3)),
        (3, True, [2.0, 4, 8, 8], (0, 0)),
    ],
)
def test_boxes_and_masks_found_on_a_view_return_to_the_original_picture(turns, mirrored, box, corner):
    """A window of 8 x 6 pixels at (10, 20) is seen 4 times as wide and twice as high, then turned and mirrored."""
    masks = torch.zeros(1, 1, 4, 4)
    masks[0, 0][corner] = 1
    detections = Detections(
        boxes=torch.tensor([[box]]),
        labels=torch.ones(1, 1, dtype=torch.long),
        scores=torch.ones(1, 1),
        valid=torch.ones(1, 1, dtype=torch.bool),
        masks=masks,
    )
    size = [32, 12] if turns % 2 else [12, 32]
    view = View(
        torch.tensor([[10.0, 20, 18, 26]]), torch.tensor([size]), torch.tensor([mirrored]), torch.tensor([turns])
    )
    (found,) = from_detections(detections, view, torch.tensor([[25, 40]]), ["cat"])
    assert found.boxes.tolist() == [[11, 21, 12, 24]]
    assert found.probabilities[0].nonzero().tolist() == [[0, 0]]
    assert found.size == (25, 40)


def test_half_precision_detections_become_float32():
    detections = Detections(
        boxes=torch.tensor([[[1.0, 2, 3, 4]]]),
        labels=torch.tensor([[1]]),
        scores=torch.tensor([[0.5]], dtype=torch.bfloat16),
        valid=torch.tensor([[True]]),
        masks=torch.ones(1, 1, 4, 4, dtype=torch.bfloat16),
    )
    size = torch.tensor([[8, 9]])
    (one,) = from_detections(detections, View.whole(size, size), size, ["cat"])
    assert one.scores.dtype == one.boxes.dtype == np.float32
    assert one.probabilities.dtype == torch.float32


def test_masks_fill_their_boxes_in_the_picture(three):
    assert three.masks.shape == (3, *SIZE)
    expected = np.zeros(SIZE, bool)
    expected[20:40, 10:30] = True
    corners = [(20, 10), (20, 29), (39, 10), (39, 29)]  # bilinear towards the zeros outside: corners fall below 0.5
    difference = np.argwhere(three.masks[0] != expected)
    assert all(any(abs(row - i) + abs(column - j) <= 3 for i, j in corners) for row, column in difference)
    assert three.masks[1][:, 75:].sum() == 0


def test_run_lengths_polygons_and_bitmaps_are_the_same_masks(three):
    for mask, rle, outlines in zip(three.masks, three.rle, three.polygons, strict=True):
        assert rle["size"] == list(SIZE)
        np.testing.assert_array_equal(bitmap_from_counts(counts_from_string(rle["counts"]), *SIZE), mask)
        ((ring,),) = outlines
        x, y = ring.T
        assert (x.min(), x.max()) == (np.flatnonzero(mask.any(0))[0], np.flatnonzero(mask.any(0))[-1] + 1)
        assert (y.min(), y.max()) == (np.flatnonzero(mask.any(1))[0], np.flatnonzero(mask.any(1))[-1] + 1)


def test_masks_between_logits_are_the_same_in_all_forms_and_not_those_between_probabilities():
    logits = torch.full((1, 6, 6), -9.0)
    logits[:, :, :3], logits[:, :, 3] = 9.0, -2.0
    found = Detections(
        torch.tensor([[[2.0, 3.0, 62.0, 43.0]]]), torch.tensor([[1]]), torch.ones(1, 1), torch.ones(1, 1).bool(),
        logits.sigmoid()[None],
    )  # fmt: skip
    size = torch.tensor([[50, 70]])
    usual, [one] = (
        from_detections(found, View.whole(size, size), size, ["a"], head=MaskHead(interpolate=between))
        for between in ("probabilities", "logits")
    )
    assert (one.masks[0, 20].sum(), usual[0].masks[0, 20].sum()) == (33, 31)
    assert np.array_equal(bitmap_from_counts(counts_from_string(one.rle[0]["counts"]), 50, 70), one.masks[0])
    assert one.polygons[0][0][0][:, 0].max() == 2 + 33
    assert one[[0]].logits


def test_a_hole_comes_with_the_outline_it_lies_in(three):
    grid = torch.ones(1, 8, 8)
    grid[0, 3:5, 3:5] = grid[0, :, 6] = 0
    one = replace(three[0], probabilities=grid, boxes=np.array([[10, 20, 74, 52]], np.float32))
    ((left, right),) = one.polygons
    (body, hole), (strip,) = left, right
    assert hole.min(axis=0).tolist() > body.min(axis=0).tolist()
    assert hole.max(axis=0).tolist() < body.max(axis=0).tolist()
    assert body[:, 0].max() < strip[:, 0].min()


def test_coco_entries_have_xywh_boxes_and_the_ids_of_the_data_set(three):
    entries = three.to_coco(image_id=42)
    assert [entry["category_id"] for entry in entries] == [9, 7, 9]
    assert entries[1]["bbox"] == [50.0, 10.0, 40.0, 40.0]
    assert {entry["image_id"] for entry in entries} == {42}
    assert entries[0]["segmentation"] == three.rle[0]
    assert entries[0]["score"] == pytest.approx(0.987, abs=1e-6)
    assert [entry["category_id"] for entry in three.to_coco(1, category_ids=[5, 6])] == [6, 5, 6]


def test_a_label_without_a_category_id_is_refused(three):
    with pytest.raises(ValueError, match="received 1 ids and the label 2"):
        three.to_coco(1, category_ids=[5])


def test_some_of_them_can_be_taken_in_every_usual_way(three):
    assert three[0].names == ["dog"]
    assert three[-1].scores[0] == np.float32(0.25)
    assert three[np.argmin(three.scores)].names == ["dog"]
    assert three[1:].names == ["cat", "dog"]
    assert three[::-1].names == ["dog", "cat", "dog"]
    assert three[three.labels == 2].names == ["dog", "dog"]
    assert three[[2, 0]].boxes[0].tolist() == [0, 0, 16, 8]
    assert [one.names[0] for one in three] == ["dog", "cat", "dog"]
    torch.testing.assert_close(three[[2]].probabilities, three.probabilities[2:])
    with pytest.raises(IndexError):
        three[3]


def test_filter_keeps_those_at_least_as_certain(three):
    assert three.filter(float(three.scores[1])).names == ["dog", "cat"]
    assert len(three.filter(0.99)) == 0


def test_results_read_as_a_sentence(three):
    assert repr(three) == "3 instances in 60 x 100: dog 0.99, cat 0.60, dog 0.25"
    assert repr(three[0]) == "1 instance in 60 x 100: dog 0.99"
    assert repr(Instances.empty((480, 640))) == "no instances in 480 x 640"


def test_nothing_found_works_everywhere():
    none = Instances.empty((30, 40))
    assert (len(none), none.to_coco(), none.rle, none.polygons, none.masks.shape) == (0, [], [], [], (0, 30, 40))
    assert len(none.filter(0.5)) == 0
    assert none.draw(np.zeros((30, 40, 3), np.uint8)).size == (520, 390)


def test_save_draws_in_the_format_of_the_ending(three, tmp_path):
    picture = np.full((*SIZE, 3), 90, np.uint8)
    drawn = three.draw(picture)
    path = replace(three, image=picture).save(tmp_path / "deep" / "result.png")
    with Image.open(path) as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(drawn))


def test_drawing_needs_the_picture_itself(three):
    with pytest.raises(ValueError, match="carry no image"):
        three.draw()
    with pytest.raises(ValueError, match=r"of shape \(60, 100, 3\), received \(100, 60, 3\)"):
        three.draw(np.zeros((100, 60, 3), np.uint8))


def test_to_supervision_says_which_package_is_missing(three, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        three.to_supervision()


def test_to_supervision_counts_classes_from_zero(three, monkeypatch):
    class Module:
        Detections = dict

    monkeypatch.setitem(sys.modules, "supervision", Module)
    made = three.to_supervision()
    assert made["class_id"].tolist() == [1, 0, 1]
    assert made["mask"].shape == (3, *SIZE)
    assert made["data"]["class_name"].tolist() == ["dog", "cat", "dog"]
