import pytest
import torch

from maskrcnn import config
from maskrcnn.models.box_head import BoxHead
from maskrcnn.structures import Proposals


@pytest.mark.parametrize(("clip", "num_kept"), [("before_nms", 1), ("after_nms", 2)])
def test_boxes_are_compared_as_clipped_or_with_what_lies_beyond_the_image(clip, num_kept, monkeypatch):
    # The image is 10 wide and 8 high: clipped, the first box is the second one; before, their IoU is 80 / 176. The
    # third lies beyond the image.
    boxes = torch.tensor([[[-12.0, 0.0, 10.0, 8.0], [0.0, 0.0, 10.0, 8.0], [11.0, 0.0, 20.0, 8.0]]])
    logits = torch.tensor([[[0.0, 3.0], [0.0, 2.0], [0.0, 4.0]]])
    head = BoxHead(config.BoxHead(hidden=8, clip=clip, num_detections=5), 4, 1, (4,), sampling=config.RoIAlign())
    monkeypatch.setattr(head, "_predict", lambda pyramid, boxes: (logits, torch.zeros(1, 3, 1, 4)))
    proposals = Proposals(boxes, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    found = head.detect([], proposals, torch.tensor([[8.0, 10.0]]))
    assert found.boxes[found.valid].tolist() == [[0.0, 0.0, 10.0, 8.0]] * num_kept
    assert found.scores[found.valid].tolist() == pytest.approx(torch.tensor([3.0, 2.0]).sigmoid()[:num_kept].tolist())
