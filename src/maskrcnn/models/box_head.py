"""Box head (Girshick 2015): classifies each proposal and refines its box."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskrcnn import boxes as box
from maskrcnn import config
from maskrcnn.models.layers import Conv
from maskrcnn.models.losses import box_loss, class_loss
from maskrcnn.models.matching import match, sample
from maskrcnn.ops.nms import nms
from maskrcnn.ops.roi_align import roi_align
from maskrcnn.structures import BACKGROUND, IGNORED, POSITIVE, Proposals, Targets


class RoIs(NamedTuple):
    """Boxes sampled for the loss, positives first."""

    boxes: Float[Tensor, "B S 4"]
    labels: Int[Tensor, "B S"]
    objects: Int[Tensor, "B S"]
    """Index of the annotation that each box is matched to."""
    positive: Bool[Tensor, "B S"]


class Boxes(NamedTuple):
    """Detections without masks."""

    boxes: Float[Tensor, "B D 4"]
    labels: Int[Tensor, "B D"]
    scores: Float[Tensor, "B D"]
    valid: Bool[Tensor, "B D"]


class BoxHead(nn.Module):
    """Convolutions, if any, and fully connected layers on RoIAligned features.

    Two fully connected layers are the paper's; four convolutions and one layer learn better with group norm and
    from scratch (Wu and He 2018).
    channels   channels of the pyramid
    strides    pixels per cell of the levels that boxes are pooled from, finest first
    """

    def __init__(
        self,
        settings: config.BoxHead,
        channels: int,
        num_classes: int,
        strides: Sequence[int],
        *,
        sampling: config.RoIAlign,
        norm: str | None = None,
        smooth_l1_beta: float = 0.0,
    ) -> None:
        super().__init__()
        convs = [Conv(channels, channels, 3, norm=norm, relu=True) for _ in range(settings.num_convs)]
        self.convs = nn.Sequential(*convs)
        hidden = settings.hidden
        inputs = [channels * settings.pool_size**2] + [hidden] * (settings.num_fcs - 1)
        layers = [nn.Linear(i, hidden) for i in inputs]
        self.fcs = nn.ModuleList(layers)
        self.classes = nn.Linear(hidden, num_classes + 1)
        self.deltas = nn.Linear(hidden, 4 if settings.class_agnostic else num_classes * 4)
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (*layers, self.classes, self.deltas):
            nn.init.zeros_(layer.bias)
        self.settings, self.strides, self.smooth_l1_beta = settings, tuple(strides), smooth_l1_beta
        self.roi_align = sampler(strides, settings.pool_size, sampling)

    def detect(self, pyramid: list[Tensor], proposals: Proposals, sizes: Float[Tensor, "B 2"]) -> Boxes:
        """Score every class on every proposal, refine the best boxes, suppress duplicates class by class."""
        settings = self.settings
        logits, deltas = self._predict(pyramid, proposals.boxes)
        # 1. every (proposal, class) is a candidate with its own score
        scores = logits.float().softmax(dim=-1)[:, :, 1:]
        scores = torch.where(proposals.valid[:, :, None] & (scores > settings.score_threshold), scores, -1.0).flatten(1)
        # 2. boxes of the best candidates
        best, index = scores.topk(min(settings.num_candidates, scores.shape[1]), dim=1)
        num_classes = logits.shape[2] - 1
        proposal, label = index // num_classes, index % num_classes + 1
        chosen = box.take(deltas.flatten(1, 2), proposal * deltas.shape[2] + self._column(deltas, label))
        boxes = box.take(proposals.boxes, proposal)
        boxes = box.decode(chosen.float(), boxes, settings.delta_weights, settings.max_log_scale)
        clipped = box.clip(boxes, sizes)
        # 3. NMS within each class
        valid = (best > 0) & box.not_empty(clipped)
        compared = clipped if settings.clip == "before_nms" else boxes
        index, kept = nms(compared, label, valid, threshold=settings.nms_threshold, num_keep=settings.num_detections)
        return Boxes(box.take(clipped, index), label.gather(1, index), best.gather(1, index).clamp(min=0), kept)

    def learn(
        self, pyramid: list[Tensor], proposals: Proposals, targets: Targets, keys: Int[Tensor, "B"]
    ) -> tuple[dict[str, Tensor], RoIs]:
        """Compute the two losses on sampled boxes; return them and the boxes, for the mask head."""
        rois, valid = self._sample(proposals, targets, keys)
        logits, deltas = self._predict(pyramid, rois.boxes)
        column = self._column(deltas, rois.labels)
        chosen = deltas.gather(2, column[:, :, None, None].expand(-1, -1, 1, 4)).squeeze(2)
        matched_boxes = box.take(targets.boxes, rois.objects)
        target_deltas = box.encode(matched_boxes, rois.boxes, self.settings.delta_weights)
        losses = {
            "box_head/class": class_loss(logits, rois.labels, valid),
            "box_head/box": box_loss(chosen, target_deltas, rois.positive, valid, self.smooth_l1_beta),
            "count/positive_rois": rois.positive.sum() / len(valid),
        }
        return losses, rois

    def _sample(
        self, proposals: Proposals, targets: Targets, keys: Int[Tensor, "B"]
    ) -> tuple[RoIs, Bool[Tensor, "B S"]]:
        # Annotated boxes are candidates too: at the start of training they are the only positives.
        candidates = torch.cat([proposals.boxes, targets.boxes], dim=1)
        real = torch.cat([proposals.valid, targets.valid & ~targets.crowd], dim=1)
        settings, iou = self.settings, self.settings.positive_iou
        target, label = match(candidates, targets, positive_iou=iou, negative_iou=iou)
        label = torch.where(real, label, IGNORED)
        fraction = settings.positive_fraction
        index, valid = sample(label, keys, num=settings.num_rois, positive_fraction=fraction, stream=2)
        positive = (label.gather(1, index) == POSITIVE) & valid
        objects = target.gather(1, index)
        labels = torch.where(positive, targets.labels.gather(1, objects), BACKGROUND)
        return RoIs(box.take(candidates, index), labels, objects, positive), valid

    def _column(self, deltas: Float[Tensor, "B n K 4"], labels: Int[Tensor, "B m"]) -> Int[Tensor, "B m"]:
        """Index each class's entry among a box's deltas; background, which has none, takes the first."""
        return (labels - 1).clamp(min=0, max=deltas.shape[2] - 1)

    def _predict(
        self, pyramid: list[Tensor], boxes: Float[Tensor, "B n 4"]
    ) -> tuple[Float[Tensor, "B n K1"], Float[Tensor, "B n K 4"]]:
        num_images, num_boxes = boxes.shape[:2]
        images = torch.arange(num_images, device=boxes.device).repeat_interleave(num_boxes)
        levels = pyramid[: len(self.strides)]
        x = self.roi_align(levels, boxes.flatten(0, 1), images)
        x = self.convs(x).flatten(1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        logits, deltas = self.classes(x), self.deltas(x)
        return logits.view(num_images, num_boxes, -1), deltas.view(num_images, num_boxes, -1, 4)


def sampler(strides: Sequence[int], output_size: int, sampling: config.RoIAlign) -> Callable[..., Tensor]:
    """Make the RoIAlign of a head: (levels, boxes, images) to features of `output_size` x `output_size` cells."""
    ratio, half_pixel = sampling.sampling_ratio, sampling.half_pixel
    return partial(roi_align, strides=strides, output_size=output_size, samples=ratio, half_pixel=half_pixel)
