"""Every operator is called, agrees with its definition, and its bytes are counted."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.bench.case import bytes_of
from maskrcnn.bench.operators import cases, cells_under
from maskrcnn.bench.ops import difference

TINY = config.Model(
    backbone=config.Backbone(norm="group_norm"),
    neck=config.Neck(channels=32),
    rpn=config.RPN(num_train_candidates=30, num_train_proposals=20, num_test_candidates=20, num_test_proposals=10),
    box_head=config.BoxHead(num_rois=6, num_candidates=40, num_detections=5),
    mask_head=config.MaskHead(num_rois=4),
)


def test_each_case_agrees_with_its_definition():
    names = []
    for case in cases(TINY, 2, (64, 96), torch.float32, torch.device("cpu")):
        names.append(case.name)
        assert case.bytes is None or case.bytes > 0
        if case.reference is not None:
            assert difference(case.kernel(), case.reference()) < 1e-4, case.name
    assert names == [
        "match",
        "nms, levels",
        "nms, levels",
        "nms, classes",
        "roi_align, forward and backward",
        "roi_align",
        "roi_align, forward and backward",
        "roi_align",
        "rasterize",
        "paste",
        "paste_rle",
        "conv3x3",
        "conv1x1",
        "resize",
        "group_norm",
    ]


def test_memory_that_tensors_share_counts_once():
    x = torch.zeros(3, 5)
    assert bytes_of([x, x.expand(2, 3, 5)], x[1], torch.zeros(7, dtype=torch.bool)) == 60 + 7


def test_boxes_cover_their_own_cells_but_no_more_than_a_level_has():
    pyramid = [torch.zeros(1, 2, 8, 12), torch.zeros(1, 2, 4, 6)]
    boxes = torch.tensor([[0.0, 0.0, 8.0, 12.0], [0.0, 0.0, 4.0, 4.0]])
    assert cells_under(boxes, pyramid, (4, 8)) == 3 * 4 + 2 * 2
    assert cells_under(boxes.repeat(20, 1), pyramid, (4, 8)) == 8 * 12


@pytest.mark.parametrize(("a", "b", "expected"), [([1.0, 2.0], [1.0, 2.5], 0.5), ([True], [False], 1.0), ([], [], 0.0)])
def test_the_largest_difference_counts(a, b, expected):
    assert difference((torch.zeros(1), torch.tensor(a)), (torch.zeros(1), torch.tensor(b))) == expected
