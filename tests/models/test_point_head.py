"""The point head: which cells, where they lie, what they see; and that it mends an edge that the mask head cannot."""

import pytest
import torch
import torch.nn.functional as F
from msgspec import structs
from torch import nn

from maskrcnn import config
from maskrcnn.models.point_head import PointHead, at_points, centres, finer, least_certain, sample_cells
from maskrcnn.structures import Detections, LearntMasks, Targets

SETTINGS = config.PointHead(enabled=True, channels=8, subdivisions=1, num_points=40, num_test_points=30)


def test_cells_lie_row_by_row_over_their_box():
    boxes = torch.tensor([[10.0, 20.0, 18.0, 26.0], [0.0, 0.0, 4.0, 4.0]])
    found = centres(torch.tensor([[0, 1, 5], [2, 3, 4]]), boxes, size=4)
    assert found[0].tolist() == [[11.0, 20.75], [13.0, 20.75], [13.0, 22.25]]
    assert found[1].tolist() == [[2.5, 0.5], [3.5, 0.5], [0.5, 1.5]]


def test_features_at_points_are_those_of_torchs_sampler():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 5, 7, generator=generator).contiguous(memory_format=torch.channels_last)
    points = torch.rand(4, 6, 2, generator=generator) * torch.tensor([9.0, 7.0]) - 1  # some beyond the borders
    images = torch.tensor([1, 0, 1, 1])
    grid = (points / torch.tensor([7.0, 5.0]) * 2 - 1)[:, None]
    expected = F.grid_sample(features[images], grid, padding_mode="border", align_corners=False)[:, :, 0]
    torch.testing.assert_close(at_points(features, points, images), expected.transpose(1, 2))


def test_a_cell_on_its_own_centre_is_seen_as_it_is():
    features = torch.arange(35.0).reshape(1, 1, 5, 7)
    points = torch.tensor([[[2.5, 3.5], [0.0, 0.0], [7.0, 5.0]]])  # x, y
    assert at_points(features, points, torch.tensor([0]))[0, :, 0].tolist() == [23.0, 0.0, 34.0]


def test_the_least_certain_are_those_nearest_to_zero():
    logits = torch.tensor([[3.0, -0.1, -7.0, 0.2], [0.0, 5.0, -5.0, 6.0]])
    assert set(least_certain(logits, 2)[0].tolist()) == {1, 3}
    assert 0 in least_certain(logits, 2)[1].tolist()
    assert least_certain(logits, 9).shape == (2, 4)


def test_three_quarters_of_the_cells_in_the_loss_are_uncertain_and_all_depend_on_the_key_alone():
    logits = torch.full((3, 400), 9.0)
    logits[:, 100:200] = 0.5  # a quarter of all, of which 3 x 40 draws hold about 30
    keys = torch.tensor([11, 12, 11])
    cells = sample_cells(logits, keys, 40)
    assert cells.shape == (3, 40)
    assert torch.equal(cells[0], cells[2])
    assert not torch.equal(cells[0], cells[1])
    assert ((cells >= 0) & (cells < 400)).all()
    is_uncertain = (cells >= 100) & (cells < 200)
    assert (is_uncertain[:, :30].float().mean(dim=1) > 0.6).all()
    assert (is_uncertain[:, 30:].float().mean(dim=1) < 0.6).all()


def test_before_it_has_learnt_it_interpolates_logits():
    head = PointHead(SETTINGS, channels=4, stride=4)
    nn.init.zeros_(head.correction.weight)
    masks = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[0.0, 0.0, 20.0, 12.0], [5.0, 3.0, 30.0, 40.0]]])
    none = torch.zeros(1, 2)
    found = Detections(boxes, none.long(), none, none.bool(), masks)
    refined = head.refine([torch.randn(1, 4, 12, 16)], found)
    assert refined.masks.shape == (1, 2, 12, 12)
    torch.testing.assert_close(refined.masks[0], finer(masks[0].logit(), 12).sigmoid(), atol=1e-5, rtol=1e-4)


def test_cells_that_are_certain_stay_as_they_are():
    head = PointHead(structs.replace(SETTINGS, num_test_points=8), channels=4, stride=4)
    nn.init.constant_(head.correction.bias, 3.0)
    masks = torch.full((1, 1, 6, 6), 0.01)
    masks[..., :3] = 0.99
    zero = torch.zeros(1, 1)
    found = Detections(torch.tensor([[[0.0, 0, 24, 24]]]), zero.long(), zero, zero.bool(), masks)
    refined = head.refine([torch.zeros(1, 4, 12, 16)], found).masks[0, 0]
    changed = (refined - finer(masks[0].logit(), 12).sigmoid()[0]).abs() > 0.01
    assert changed.sum() == 8
    assert changed[:, 5:7].sum() == 8  # beside the edge, between columns 5 and 6


def scene():
    """A triangle in a box of 32 pixels, whose shape features of stride 4 tell, and a mask head that sees none of it."""
    x1, y1, x2, y2 = 8.0, 4.0, 40.0, 36.0
    edges = torch.tensor([[[x1, y1, x2, y2], [x2, y2, x1, y2], [x1, y2, x1, y1]]])
    one = torch.ones(1, 1, dtype=torch.bool)
    boxes = torch.tensor([[[x1, y1, x2, y2]]])
    targets = Targets(boxes, one.long(), ~one, one, edges, torch.tensor([[0, 3]]))
    zero = torch.zeros(1, dtype=torch.int64)
    masks = LearntMasks(torch.zeros(1, 8, 8), boxes[0], zero, zero, zero, torch.ones(1))
    y, x = torch.meshgrid(torch.arange(12.0) * 4 + 2, torch.arange(16.0) * 4 + 2, indexing="ij")
    pyramid = [torch.stack([(y - y1) - (x - x1), torch.ones_like(x)])[None] / 8]
    return pyramid, masks, targets


def test_it_learns_an_edge_from_the_finest_features():
    torch.manual_seed(0)
    head = PointHead(structs.replace(SETTINGS, num_test_points=256), channels=2, stride=4)
    pyramid, masks, targets = scene()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.04)
    losses = []
    for step in range(40):
        loss = head.learn(pyramid, masks, targets, torch.tensor([step]))["point_head/point"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.693, abs=0.02)
    assert losses[-1] < 0.2
    zero = torch.zeros(1, 1)
    found = Detections(masks.boxes[None], zero.long(), zero, zero.bool(), torch.full((1, 1, 8, 8), 0.5))
    drawn = head.refine(pyramid, found).masks[0, 0] >= 0.5
    expected = torch.ones(16, 16).tril().bool()
    assert (drawn ^ expected).float().mean() < 0.07


def test_masks_without_weight_teach_nothing():
    pyramid, masks, targets = scene()
    head = PointHead(SETTINGS, channels=2, stride=4)
    assert head.learn(pyramid, masks._replace(weights=torch.zeros(1)), targets, torch.tensor([1])) == {
        "point_head/point": 0.0
    }
