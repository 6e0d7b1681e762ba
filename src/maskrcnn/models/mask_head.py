"""Mask head (He et al. 2017): a small fully convolutional network that segments each object inside its box."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.models.box_head import Boxes, RoIs, sampler
from maskrcnn.models.layers import Conv, Doubling
from maskrcnn.models.losses import mask_loss
from maskrcnn.ops.visible import draw_targets
from maskrcnn.structures import Detections, LearntMasks, Targets


class MaskHead(nn.Module):
    """Convolutions on RoIAligned features, upsampling by two, a mask for every class.

    The loss has `num_rois` slots per image, shared over the batch, so that images with few objects waste few of them;
    positive boxes without a slot are counted in `count/masks_left_out`.
    channels   channels of the pyramid
    strides    pixels per cell of the levels that boxes are pooled from, finest first
    """

    def __init__(
        self,
        settings: config.MaskHead,
        channels: int,
        num_classes: int,
        strides: Sequence[int],
        *,
        sampling: config.RoIAlign,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        width = settings.channels
        inputs = [channels] + [width] * (settings.num_convs - 1)
        self.convs = nn.Sequential(*[Conv(i, width, 3, norm=norm, relu=True) for i in inputs])
        self.upsample = Doubling(width, width)
        self.masks = Conv(width, 1 if settings.class_agnostic else num_classes, 1)
        nn.init.normal_(self.masks.weight, std=0.001)
        self.strides, self.num_rois = tuple(strides), settings.num_rois
        self.roi_align = sampler(strides, settings.pool_size, sampling)

    def segment(self, pyramid: list[Tensor], found: Boxes) -> Detections:
        """Predict a mask inside each final box, for the box's own class."""
        num_images, num_boxes = found.labels.shape
        images = torch.arange(num_images, device=found.boxes.device).repeat_interleave(num_boxes)
        logits = self._predict(pyramid, found.boxes.flatten(0, 1), images, found.labels.flatten())
        masks = logits.float().sigmoid().unflatten(0, (num_images, num_boxes))
        return Detections(*found, masks)

    def learn(self, pyramid: list[Tensor], rois: RoIs, targets: Targets) -> tuple[dict[str, Tensor], LearntMasks]:
        """Compute the loss on the positives of the whole batch, packed into a fixed number of slots; return both."""
        num_images, num_rois = rois.labels.shape
        # Earlier slots first: every image gets its share.
        slot = torch.arange(num_rois, 0, -1, device=rois.boxes.device)
        num_slots = min(self.num_rois, num_rois) * num_images
        rank, index = (rois.positive * slot).flatten().topk(num_slots)
        used = rank > 0
        # Unused slots repeat used ones: their weight is zero, but live batch norm sees them.
        index = index[torch.arange(num_slots, device=index.device) % used.sum().clamp(min=1)]
        images = index // num_rois
        boxes, labels, objects = (x.flatten(0, 1)[index] for x in (rois.boxes, rois.labels, rois.objects))

        logits = self._predict(pyramid, boxes, images, labels)
        size = logits.shape[-1]
        target_masks = draw_targets(targets, boxes, images, objects, size)
        per_image = torch.zeros(num_images, device=boxes.device).index_add(0, images, used.float())
        weights = used / (per_image[images].clamp(min=1) * num_images)
        losses = {
            "mask_head/mask": mask_loss(logits, target_masks, weights),
            "count/masks_left_out": rois.positive.sum() - used.sum(),
        }
        return losses, LearntMasks(logits, boxes, images, index % num_rois, objects, weights)

    def _predict(
        self, pyramid: list[Tensor], boxes: Float[Tensor, "R 4"], images: Int[Tensor, "R"], labels: Int[Tensor, "R"]
    ) -> Float[Tensor, "R M M"]:
        levels = pyramid[: len(self.strides)]
        x = self.upsample(self.convs(self.roi_align(levels, boxes, images)))
        logits = self.masks(x).squeeze(1) if self.masks.out_channels == 1 else self._draw_class(x, labels)
        return self.upsample.arranged(logits)

    def _draw_class(self, x: Float[Tensor, "R C H W"], labels: Int[Tensor, "R"]) -> Float[Tensor, "R H W"]:
        """Compute the mask of each box's own class only, with that class's weights."""
        assert self.masks.bias is not None, "no norm stands in for it"
        classes = torch.arange(1, self.masks.out_channels + 1, device=labels.device)
        one_hot = (labels.clamp(1, len(classes))[:, None] == classes).to(x.dtype)
        weight, bias = one_hot @ self.masks.weight.flatten(1), one_hot @ self.masks.bias
        logits = x.permute(0, 2, 3, 1).flatten(1, 2) @ weight[:, :, None] + bias[:, None, None]
        return logits.unflatten(1, x.shape[2:]).squeeze(3)
