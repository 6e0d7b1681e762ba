import pytest
import torch
import torch.nn.functional as F
from msgspec.structs import replace

from maskrcnn import boxes as box
from maskrcnn import config
from maskrcnn.models.rpn import RPN, neighbourhoods


def rpn(channels: int, convs: int = 1) -> RPN:
    torch.manual_seed(0)
    model = RPN(
        config.RPN(
            anchor_sizes=(8.0, 16.0),
            num_convs=convs,
            max_log_scale=4.0,
            num_train_candidates=20,
            num_test_candidates=20,
            num_train_proposals=10,
            num_test_proposals=10,
            num_samples=16,
        ),
        channels,
        strides=(4, 8),
    )
    for layer in (*model.convs, model.objectness, model.deltas):
        torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(layer.bias)
    return model


def pyramid(channels: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, channels, h, w, generator=generator).requires_grad_() for h, w in ((4, 6), (2, 3))]


def test_neighbourhoods_are_what_a_convolution_sees():
    levels = pyramid(5)
    cells = torch.arange(4 * 6 + 2 * 3).expand(2, -1)
    expected = [F.unfold(level, 3, padding=1).unflatten(1, (5, 9)).permute(0, 3, 2, 1) for level in levels]
    around, inside = neighbourhoods(levels, cells, radius=1)
    torch.testing.assert_close(around.flatten(2, 3), torch.cat(expected, 1))
    assert inside[0, 0].tolist() == [[False, False, False], [False, True, True], [False, True, True]]
    assert inside[0, 7].all()


def test_what_is_infinite_on_one_level_does_not_reach_the_cells_of_another():
    levels = [torch.ones(1, 2, 4, 6), torch.full((1, 2, 2, 3), torch.inf)]
    around, _ = neighbourhoods(levels, torch.arange(4 * 6)[None], radius=1)
    assert around.isfinite().all()


@pytest.mark.parametrize("convs", [1, 2, 3])
def test_some_anchors_get_the_numbers_and_gradients_of_the_pass_over_all_cells(convs):
    model, levels = rpn(4, convs), pyramid(4)
    index = torch.tensor([[0, 5, 17, 40, 71, 72, 80, 89], [3, 3, 89, 70, 2, 75, 50, 1]])
    logits, deltas = model._predict_at(levels, index)
    every = model._predict(levels)
    dense = (
        torch.cat(every[0], 1).gather(1, index),
        torch.cat(every[1], 1).gather(1, index[..., None].expand(-1, -1, 4)),
    )
    torch.testing.assert_close((logits, deltas), dense)

    inputs = [*levels, *model.parameters()]
    weights = torch.randn(2, 8), torch.randn(2, 8, 4)
    sparse_gradients, dense_gradients = (
        torch.autograd.grad((scores * weights[0]).sum() + (moves * weights[1]).sum(), inputs)
        for scores, moves in ((logits, deltas), dense)
    )
    torch.testing.assert_close(sparse_gradients, dense_gradients)


def test_proposals_are_clipped_to_the_image_or_to_the_last_pixels_of_the_batch():
    model, levels = rpn(4), pyramid(4)
    sizes = torch.tensor([[12.0, 9.0], [15.0, 23.0]])
    inside = model.propose(levels, sizes)
    model.settings = replace(model.settings, clip_to="batch")
    beyond = model.propose(levels, sizes)
    assert (inside.boxes[0] <= torch.tensor([9.0, 12.0, 9.0, 12.0])).all()
    assert (beyond.boxes[0] <= torch.tensor([23.0, 15.0, 23.0, 15.0])).all()
    assert (beyond.boxes[0, :, 2:].amax(0) > torch.tensor([9.0, 12.0])).all()
    assert torch.equal(inside.boxes[1], beyond.boxes[1])


def test_nms_across_levels_leaves_no_two_proposals_that_overlap():
    model, levels = rpn(4), pyramid(4)
    model.settings = replace(model.settings, nms_threshold=0.1)
    sizes = torch.tensor([[16.0, 24.0], [12.0, 20.0]])
    within = model.propose(levels, sizes)
    model.settings = replace(model.settings, nms_across_levels=True)
    across = model.propose(levels, sizes)
    assert (overlaps(within) > 0.1).any()
    assert not (overlaps(across) > 0.1).any()
    assert across.valid.sum() < within.valid.sum()
    assert torch.equal(across.boxes[:, 0], within.boxes[:, 0])
    assert (across.objectness[0].diff()[: across.valid[0].sum() - 1] <= 0).all()


def overlaps(proposals):
    """IoU of each image's valid proposals with the others."""
    boxes = proposals.boxes
    shared, area = box.intersection(boxes, boxes), box.area(boxes)
    iou = shared / (area[:, :, None] + area[:, None] - shared).clamp(min=1e-9)
    both = proposals.valid[:, :, None] & proposals.valid[:, None]
    return (iou * both).masked_fill(torch.eye(boxes.shape[1], dtype=torch.bool), 0.0)
