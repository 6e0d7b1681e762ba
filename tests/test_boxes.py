import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn import boxes as box
from maskrcnn.config import MAX_LOG_SCALE

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def test_what_non_square_boxes_share_is_worked_out_by_hand():
    a = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    b = torch.tensor([[2.0, 1.0, 5.0, 5.0], [0.0, 0.0, 4.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    assert box.intersection(a, b).tolist() == [[2.0, 8.0, 0.0]]


def test_intersection_is_batched():
    a, b = torch.rand(2, 3, 4).cumsum(-1), torch.rand(2, 5, 4).cumsum(-1)
    torch.testing.assert_close(box.intersection(a, b)[1], box.intersection(a[1], b[1]))


def test_empty_and_inside_out_boxes_have_no_area_and_no_overlap():
    boxes = torch.tensor([[1.0, 1.0, 1.0, 5.0], [5.0, 5.0, 2.0, 2.0]])
    assert box.area(boxes).tolist() == [0.0, 0.0]
    assert box.intersection(boxes, boxes).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert box.not_empty(boxes).tolist() == [False, False]


def test_clip_tells_height_from_width():
    boxes = torch.tensor([[[-3.0, -2.0, 90.0, 90.0]]])
    assert box.clip(boxes, torch.tensor([[20.0, 30.0]])).tolist() == [[[0.0, 0.0, 30.0, 20.0]]]


def test_deltas_of_a_moved_and_grown_box_are_worked_out_by_hand():
    reference, goal = torch.tensor([0.0, 0.0, 10.0, 20.0]), torch.tensor([2.0, 5.0, 22.0, 15.0])
    expected = [(12 - 5) / 10 * 10, 0.0, math.log(2) * 5, math.log(0.5) * 5]
    torch.testing.assert_close(box.encode(goal, reference, WEIGHTS), torch.tensor(expected))


coordinate = st.floats(-500, 500, width=32)
side = st.floats(1, 400, width=32)


@settings(deadline=None)
@given(coordinate, coordinate, side, side, coordinate, coordinate, side, side)
def test_decode_inverts_encode(x, y, w, h, rx, ry, rw, rh):
    boxes, reference = torch.tensor([x, y, x + w, y + h]), torch.tensor([rx, ry, rx + rw, ry + rh])
    if w > 60 * rw or h > 60 * rh:
        return  # beyond the cap on growth, tested below
    deltas = box.encode(boxes, reference, WEIGHTS)
    torch.testing.assert_close(box.decode(deltas, reference, WEIGHTS, MAX_LOG_SCALE), boxes, rtol=1e-3, atol=2e-2)


def test_decoded_sides_grow_at_most_62_and_a_half_times():
    reference = torch.tensor([0.0, 0.0, 2.0, 4.0])
    huge = box.decode(torch.tensor([0.0, 0.0, 1e9, 1e9]), reference, (1.0, 1.0, 1.0, 1.0), MAX_LOG_SCALE)
    torch.testing.assert_close(huge[2:] - huge[:2], torch.tensor([125.0, 250.0]))


def test_deltas_between_empty_boxes_are_finite():
    empty = torch.zeros(3, 4)
    assert box.encode(empty, empty, WEIGHTS).isfinite().all()
