"""Two ways to compute the same, compared by hand."""

import pytest
import torch

from maskrcnn.bench.agreement import detections_apart, losses_apart
from maskrcnn.structures import Detections


def detections(boxes, labels, scores, mask=0.5):
    number = len(boxes)
    return Detections(
        torch.tensor([boxes], dtype=torch.float32),
        torch.tensor([labels]),
        torch.tensor([scores], dtype=torch.float32),
        torch.tensor([[score > 0 for score in scores]]),
        torch.full((1, number, 2, 2), mask),
    )


def test_a_loss_is_compared_with_its_own_size_and_nothing_with_itself():
    rows = losses_apart(["a", "b", "c"], torch.tensor([2.0, 0.0, 0.0]), torch.tensor([2.5, 0.0, 0.125]), "compiled")
    assert [row["relative difference"] for row in rows] == [0.25, 0.0, 0.125]
    assert rows[0] == {"loss": "a", "eager": 2.0, "compiled": 2.5, "relative difference": 0.25}


def test_detections_are_matched_by_box_and_class_not_by_place():
    left, right = [0.0, 0.0, 10.0, 20.0], [50.0, 0.0, 60.0, 30.0]
    first = detections([left, right, left], [1, 2, 1], [0.9, 0.8, 0.0])
    second = detections([right, [0.0, 0.0, 10.0, 20.5], left], [2, 1, 3], [0.7, 0.9, 0.6], mask=0.75)
    row = detections_apart(first, second, "captured")
    assert (row["eager"], row["captured"], row["found by both"]) == (2, 3, 1.0)
    assert row["box, px"] == 0.5
    assert row["score"] == pytest.approx(0.1)
    assert row["mask"] == 0.25


def test_a_detection_answers_for_one_only():
    box = [0.0, 0.0, 10.0, 20.0]
    row = detections_apart(detections([box, box], [1, 1], [0.9, 0.8]), detections([box], [1], [0.9]), "captured")
    assert row["found by both"] == 0.5


def test_nothing_found_agrees_with_nothing():
    nothing = detections([[0.0, 0.0, 0.0, 0.0]], [1], [0.0])
    row = detections_apart(nothing, nothing, "captured")
    assert (row["eager"], row["captured"], row["found by both"], row["box, px"]) == (0, 0, 0.0, None)
