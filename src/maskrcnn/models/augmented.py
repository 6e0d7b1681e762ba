"""Test-time augmentation: one prediction from several views of the same images, such as sizes and mirror images.

Boxes first: those of all views are brought into the frame of the originals and merged. Then masks: each view draws the
merged boxes, and their probabilities are averaged (the order of Detectron2's GeneralizedRCNNWithTTA). All of it
has static shapes for each combination of views' sizes, and is one graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskrcnn import boxes as box
from maskrcnn.models.box_head import Boxes
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.ops.nms import nms
from maskrcnn.structures import Detections, ImageBatch
from maskrcnn.view import move_boxes


class Seen(NamedTuple):
    """A batch as it is seen in one way."""

    images: ImageBatch
    to_view: Float[Tensor, "B 2 3"]
    """The map from each original to what is seen of it, see `view.matrix`."""
    to_original: Float[Tensor, "B 2 3"]
    mirrored: Bool[Tensor, " B"]


class Augmented(nn.Module):
    """A network that looks at its images in several ways. Its detections lie in the frame of the originals."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, ways: Sequence[Seen]) -> Detections:
        """Predict detections, best first, as many as the network gives for one view."""
        model = self.model
        pyramids = [model.neck(model.backbone(seen.images.pixels)) for seen in ways]
        found = [self._detect(pyramid, seen) for pyramid, seen in zip(pyramids, ways, strict=True)]
        settings = model.box_head.settings
        merged = merge(found, threshold=settings.nms_threshold, num_keep=settings.num_detections)
        masks = [self._segment(pyramid, merged, seen) for pyramid, seen in zip(pyramids, ways, strict=True)]
        return Detections(*merged, torch.stack(masks).mean(0))

    def _detect(self, pyramid: list[Tensor], seen: Seen) -> Boxes:
        proposals = self.model.rpn.propose(pyramid, seen.images.sizes)
        found = self.model.box_head.detect(pyramid, proposals, seen.images.sizes)
        return found._replace(boxes=move_boxes(seen.to_original, found.boxes))

    def _segment(self, pyramid: list[Tensor], merged: Boxes, seen: Seen) -> Float[Tensor, "B D M M"]:
        moved = merged._replace(boxes=move_boxes(seen.to_view, merged.boxes))
        masks = self.model.segment(pyramid, moved).masks
        return torch.where(seen.mirrored[:, None, None, None], masks.flip(3), masks)


def merge(found: Sequence[Boxes], *, threshold: float, num_keep: int) -> Boxes:
    """Fuse the boxes of several views: class by class, each surviving box is the mean of all that overlap it.

    Survivors are those of non-maximum suppression, to which the others are assigned by their largest overlap. Boxes are
    averaged by their scores; a survivor's score is the sum of each view's best for it, over the number of
    views: what only one view sees becomes less certain. Source: Solovyev et al. 2019, weighted boxes fusion.
    """
    together = Boxes(*(torch.cat(parts, 1) for parts in zip(*found, strict=True)))
    order = torch.where(together.valid, together.scores, -1.0).argsort(dim=1, descending=True, stable=True)
    boxes, labels, scores, valid = _take(together, order)
    view = torch.arange(len(found), device=boxes.device).repeat_interleave(found[0].labels.shape[1])[order]
    kept, used = nms(boxes, labels, valid, threshold=threshold, num_keep=num_keep)
    centres, classes = box.take(boxes, kept), labels.gather(1, kept)
    # 1. each box belongs to the survivor of its class that it overlaps most
    same = (classes[:, :, None] == labels[:, None]) & used[:, :, None] & valid[:, None]
    overlap = torch.where(same, box.iou(centres, boxes), 0.0)
    owner = overlap.argmax(dim=1)
    slots = torch.arange(num_keep, device=boxes.device)
    member = (owner[:, None] == slots[:, None]) & (overlap > threshold)
    # 2. the mean of its members, weighted by their scores
    weights = member * scores[:, None]
    total = weights.sum(2, keepdim=True)
    with torch.autocast(boxes.device.type, enabled=False):  # coordinates need all their digits
        fused = torch.where(total > 0, weights @ boxes / total.clamp(min=1e-9), centres)
    # 3. the mean over the views of the best score in each
    best = [torch.where(view[:, None] == number, weights, 0.0).amax(2) for number in range(len(found))]
    certain = torch.stack(best).sum(0) / len(found)
    ranks = torch.where(used, certain, -1.0).argsort(dim=1, descending=True, stable=True)
    return _take(Boxes(fused, classes, certain, used), ranks)


def _take(found: Boxes, index: Int[Tensor, "B n"]) -> Boxes:
    """Gather each image's boxes, with what is known of them, by its own index."""
    others = (part.gather(1, index) for part in (found.labels, found.scores, found.valid))
    return Boxes(box.take(found.boxes, index), *others)
