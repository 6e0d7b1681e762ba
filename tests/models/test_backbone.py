"""The rest of the network stands on any backbone: here on three convolutions that the package does not know."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.models.backbone import Backbone
from maskrcnn.models.layers import Conv
from maskrcnn.models.mask_rcnn import assemble
from maskrcnn.models.rpn import RPN
from maskrcnn.structures import ImageBatch, Targets


class Toy(Backbone):
    strides, channels = (4, 8), (6, 10)

    def __init__(self):
        super().__init__()
        self.stem = Conv(5, 4, 3, stride=2, relu=True)
        self.fine, self.coarse = Conv(4, 6, 3, stride=2, relu=True), Conv(6, 10, 3, stride=2, relu=True)

    def stages(self):
        return self.stem, self.fine, self.coarse

    def forward(self, pixels):
        fine = self.fine(self.stem(pixels))
        return [fine, self.coarse(fine)]


SETTINGS = config.Model(
    neck=config.Neck(channels=8),
    rpn=config.RPN(anchor_sizes=(8.0, 16.0, 32.0), num_samples=32, num_train_proposals=20, num_test_proposals=20),
    box_head=config.BoxHead(hidden=16, num_rois=16, num_detections=5),
    mask_head=config.MaskHead(num_convs=1, channels=8, num_rois=4),
)


def lesson():
    """One bright rectangle on a picture of five bands."""
    pixels = torch.zeros(1, 5, 64, 96)
    pixels[..., 16:40, 24:72] = 1
    corners = torch.tensor([[24.0, 16], [72, 16], [72, 40], [24, 40]])
    targets = Targets(
        boxes=torch.tensor([[[24.0, 16, 72, 40]]]),
        labels=torch.ones(1, 1, dtype=torch.int64),
        crowd=torch.zeros(1, 1, dtype=torch.bool),
        valid=torch.ones(1, 1, dtype=torch.bool),
        edges=torch.cat([corners, corners.roll(-1, 0)], 1)[None],
        first_edge=torch.tensor([[0, 4]]),
    )
    return ImageBatch(pixels, torch.tensor([[64.0, 96.0]])), targets


def test_a_backbone_of_three_convolutions_learns_where_an_object_is():
    torch.manual_seed(1)
    model, (images, targets) = assemble(Toy(), SETTINGS, num_classes=2), lesson()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    totals = []
    for step in range(60):
        losses = model.losses(images, targets, torch.tensor([step]))
        total = sum(value for name, value in losses.items() if not name.startswith("count/"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] / 4
    with torch.no_grad():
        found = model.eval()(images)
    assert found.labels[0, 0] == 1
    assert (found.boxes[0, 0] - targets.boxes[0, 0]).abs().max() < 8


def test_its_parts_freeze_from_the_stem():
    backbone = Toy()
    for stage in backbone.stages()[:2]:
        stage.requires_grad_(False)
    assert [any(p.requires_grad for p in part.parameters()) for part in backbone.children()] == [False, False, True]


def test_levels_without_an_anchor_size_are_refused():
    with pytest.raises(ValueError, match="expected 3 sizes, one for each level of the pyramid, got 2"):
        RPN(config.RPN(anchor_sizes=(8.0, 16.0)), 8, (4, 8, 16))
