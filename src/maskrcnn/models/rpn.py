"""Region proposal network (Ren et al. 2015): finds boxes that may hold an object, on every level of the pyramid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskrcnn import boxes as box
from maskrcnn import config
from maskrcnn.models.anchors import cell_anchors, level_anchors
from maskrcnn.models.layers import Conv
from maskrcnn.models.losses import box_loss, objectness_loss
from maskrcnn.models.matching import match, sample
from maskrcnn.ops.nms import nms
from maskrcnn.structures import POSITIVE, Proposals, Targets


class RPN(nn.Module):
    """One small head shared by all levels; each cell has an anchor of each aspect ratio.

    channels   channels of the pyramid
    strides    pixels per cell of its levels, finest first
    Raises ValueError unless `settings` has an anchor size for each level.
    """

    base: Tensor

    def __init__(
        self, settings: config.RPN, channels: int, strides: Sequence[int], *, smooth_l1_beta: float = 0.0
    ) -> None:
        super().__init__()
        if len(settings.anchor_sizes) != len(strides):
            raise ValueError(
                f"model.rpn.anchor_sizes: expected {len(strides)} sizes, one for each level of the pyramid, "
                f"got {len(settings.anchor_sizes)}"
            )
        num_shapes = len(settings.aspect_ratios)
        self.convs = nn.Sequential(*[Conv(channels, channels, 3, relu=True) for _ in range(settings.num_convs)])
        self.objectness = Conv(channels, num_shapes, 1)
        self.deltas = Conv(channels, 4 * num_shapes, 1)
        for layer in self.modules():
            if isinstance(layer, Conv):
                nn.init.normal_(layer.weight, std=0.01)
        self.settings, self.strides, self.smooth_l1_beta = settings, tuple(strides), smooth_l1_beta
        ratios, rounded = settings.aspect_ratios, settings.round_anchors
        base = torch.stack([cell_anchors(size, ratios, rounded=rounded) for size in settings.anchor_sizes])
        self.register_buffer("base", base, persistent=False)

    def propose(self, pyramid: list[Tensor], sizes: Float[Tensor, "B 2"]) -> Proposals:
        """Return the best boxes of each image, for prediction."""
        numbers = self.settings.num_test_candidates, self.settings.num_test_proposals
        return self._select(*self._predict(pyramid), self._anchors(pyramid), self._limits(pyramid, sizes), *numbers)

    def learn(
        self, pyramid: list[Tensor], sizes: Float[Tensor, "B 2"], targets: Targets, keys: Int[Tensor, "B"]
    ) -> tuple[dict[str, Tensor], Proposals]:
        """Compute the two losses and the proposals that the heads learn from.

        Only the sampled anchors, a few hundred of a quarter of a million, have a gradient, so only they are computed
        with one; the proposals come from a pass over all cells without gradient.
        """
        anchors = self._anchors(pyramid)
        # First: autocast keeps the first cast of a weight, and one made without a gradient would have none.
        losses = self._losses(pyramid, torch.cat(anchors), targets, keys)
        with torch.no_grad():
            numbers = self.settings.num_train_candidates, self.settings.num_train_proposals
            proposals = self._select(*self._predict(pyramid), anchors, self._limits(pyramid, sizes), *numbers)
        return losses, proposals

    def _predict(self, pyramid: list[Tensor]) -> tuple[list[Float[Tensor, "B _"]], list[Float[Tensor, "B _ 4"]]]:
        logits, deltas = [], []
        for level in pyramid:
            x = self.convs(level)
            logits.append(self.objectness(x).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.deltas(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4).float())
        return logits, deltas

    def _predict_at(
        self, pyramid: list[Tensor], index: Int[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B S 4"]]:
        """Predict for some anchors only, with the same weights as matrices over the neighbourhoods of their cells."""
        num_shapes = self.base.shape[1]
        cell, shape = index // num_shapes, index % num_shapes
        x, inside = neighbourhoods(pyramid, cell, radius=len(self.convs))
        for conv in self.convs:
            assert isinstance(conv, Conv)
            side = x.shape[2] - 2
            shifted = [x[:, :, i : i + side, j : j + side] for i in range(3) for j in range(3)]
            windows = torch.stack(shifted, dim=4).flatten(4)
            inside = inside[:, :, 1:-1, 1:-1]
            x = F.relu(F.linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)) * inside[..., None]
        x = x[:, :, 0, 0]
        logits = F.linear(x, self.objectness.weight.flatten(1), self.objectness.bias)
        deltas = F.linear(x, self.deltas.weight.flatten(1), self.deltas.bias).unflatten(2, (num_shapes, 4))
        chosen = shape[:, :, None]
        return (
            logits.gather(2, chosen).squeeze(2).float(),
            deltas.gather(2, chosen[..., None].expand(-1, -1, -1, 4)).squeeze(2).float(),
        )

    def _anchors(self, pyramid: list[Tensor]) -> list[Float[Tensor, "_ 4"]]:
        sizes = [(level.shape[2], level.shape[3]) for level in pyramid]
        strides = [(stride, stride) for stride in self.strides]
        if self.settings.anchor_strides == "divided":
            height, width = (side * self.strides[0] for side in sizes[0])
            strides = [(height // rows, width // columns) for rows, columns in sizes]
        return [
            level_anchors(base, height=cells[0], width=cells[1], stride=stride, offset=self.settings.anchor_offset)
            for base, cells, stride in zip(self.base, sizes, strides, strict=True)
        ]

    def _limits(self, pyramid: list[Tensor], sizes: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
        """Return the (height, width) that each image's proposals are clipped to."""
        if self.settings.clip_to == "image":
            return sizes
        last = (side * self.strides[0] - 1 for side in pyramid[0].shape[2:])
        return torch.stack([torch.full_like(sizes[:, axis], side) for axis, side in enumerate(last)], 1)

    def _select(
        self,
        logits: list[Float[Tensor, "B _"]],
        deltas: list[Float[Tensor, "B _ 4"]],
        anchors: list[Float[Tensor, "_ 4"]],
        limits: Float[Tensor, "B 2"],
        num_candidates: int,
        num_proposals: int,
    ) -> Proposals:
        scores, boxes, levels = [], [], []
        for number, (logit, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
            best, index = logit.topk(min(num_candidates, logit.shape[1]), dim=1)
            chosen = box.take(delta, index)
            decoded = box.decode(chosen, anchor[index], self.settings.delta_weights, self.settings.max_log_scale)
            scores.append(best)
            boxes.append(box.clip(decoded, limits))
            levels.append(torch.full_like(index, number))
        order = torch.cat(scores, 1).argsort(dim=1, descending=True, stable=True)
        objectness, level = torch.cat(scores, 1).gather(1, order), torch.cat(levels, 1).gather(1, order)
        candidates = box.take(torch.cat(boxes, 1), order)
        threshold = self.settings.nms_threshold
        index, kept = nms(candidates, level, box.not_empty(candidates), threshold=threshold, num_keep=num_proposals)
        proposals = Proposals(box.take(candidates, index), objectness.gather(1, index), kept)
        return self._across_levels(proposals) if self.settings.nms_across_levels else proposals

    def _across_levels(self, proposals: Proposals) -> Proposals:
        """Drop proposals that overlap a better one of any level."""
        boxes, objectness, valid = proposals
        everything, num_keep = torch.zeros_like(valid, dtype=torch.long), valid.shape[1]
        index, kept = nms(boxes, everything, valid, threshold=self.settings.nms_threshold, num_keep=num_keep)
        return Proposals(box.take(boxes, index), objectness.gather(1, index), kept)

    def _losses(
        self, pyramid: list[Tensor], anchors: Float[Tensor, "N 4"], targets: Targets, keys: Int[Tensor, "B"]
    ) -> dict[str, Tensor]:
        settings, every = self.settings, anchors.expand(len(keys), -1, -1)
        target, label = match(
            every, targets, positive_iou=settings.positive_iou, negative_iou=settings.negative_iou, keep_best=True
        )
        fraction = settings.positive_fraction
        index, valid = sample(label, keys, num=settings.num_samples, positive_fraction=fraction, stream=1)
        positive = (label.gather(1, index) == POSITIVE) & valid
        matched_boxes = box.take(targets.boxes, target.gather(1, index))
        target_deltas = box.encode(matched_boxes, anchors[index], settings.delta_weights)
        logits, deltas = self._predict_at(pyramid, index)
        return {
            "rpn/objectness": objectness_loss(logits, positive, valid),
            "rpn/box": box_loss(deltas, target_deltas, positive, valid, self.smooth_l1_beta),
            "count/positive_anchors": positive.sum() / len(positive),
        }


def neighbourhoods(
    pyramid: list[Float[Tensor, "B C _ _"]], cells: Int[Tensor, "B S"], *, radius: int
) -> tuple[Float[Tensor, "B S k k C"], Bool[Tensor, "B S k k"]]:
    """Gather the k x k cells around some cells, k = 2 * radius + 1, and tell which of those lie within the level.

    cells   numbered row by row, level after level, as anchors are
    Beyond a level's border features are zero.
    """
    step = torch.arange(-radius, radius + 1, device=cells.device)
    count, side = cells.shape[1], 2 * radius + 1
    found = pyramid[0].new_zeros(len(cells), count, side, side, pyramid[0].shape[1])
    within, first = torch.zeros_like(found[..., 0], dtype=torch.bool), 0
    for level in pyramid:
        batch, channels, height, width = level.shape
        here = (cells - first).clamp(0, height * width - 1)[:, :, None, None]
        y, x = here // width + step[:, None], here % width + step
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        there = inside & (here == (cells - first)[:, :, None, None])
        image = torch.arange(batch, device=cells.device)[:, None, None, None]
        row = (image * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
        values = level.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, row.flatten())
        found = found + torch.where(there[..., None], values.view_as(found), 0.0)  # other levels' infinities stay out
        within, first = within | there, first + height * width
    return found, within
