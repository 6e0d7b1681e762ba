"""Point head (PointRend, Kirillov et al. 2020): decides again, more finely, about the cells on the edge of a mask.

Points are cells of a grid that subdivides that of a mask: their number is fixed, and values decide which ones they are.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.keys import uniform
from maskrcnn.models.layers import Conv
from maskrcnn.ops.visible import draw_targets
from maskrcnn.structures import Detections, LearntMasks, Targets

NUM_LAYERS = 3
CANDIDATES, UNCERTAIN = 3, 0.75
"""Random cells looked at for each one in the loss, and the share that is taken for its uncertainty (section 3.3)."""
SMALLEST_PROBABILITY = 1e-6
"""Nearer to 0 and 1 the logits of probabilities are cut off."""


class PointHead(nn.Module):
    """Layers on the finest features at a point and the mask's logit there, whose result is added to that logit.

    It begins with the mask as it is, interpolated, and learns the difference. One for all classes: that of the object
    is in the logit.
    channels   channels of the pyramid
    stride     pixels per cell of its finest level
    """

    def __init__(self, settings: config.PointHead, channels: int, stride: int) -> None:
        super().__init__()
        width = settings.channels
        self.features = Conv(channels, width, 1)
        self.layers = nn.ModuleList(nn.Linear(width + 1, width) for _ in range(NUM_LAYERS))
        self.correction = nn.Linear(width + 1, 1)
        nn.init.normal_(self.correction.weight, std=0.001)
        nn.init.zeros_(self.correction.bias)
        self.settings, self.stride = settings, stride

    def refine(self, pyramid: list[Tensor], found: Detections) -> Detections:
        """Subdivide the masks; each time the least certain cells are predicted, the others interpolated."""
        num_images, num_boxes = found.labels.shape
        images = torch.arange(num_images, device=found.boxes.device).repeat_interleave(num_boxes)
        features, boxes = self.features(pyramid[0]), found.boxes.flatten(0, 1)
        coarse = logits = found.masks.flatten(0, 1).logit(SMALLEST_PROBABILITY)
        for _ in range(self.settings.subdivisions):
            logits = finer(logits, 2 * logits.shape[2])
            size = logits.shape[2]
            cells = least_certain(logits.flatten(1), self.settings.num_test_points)
            predicted = self._predict(features, finer(coarse, size), boxes, images, cells)
            logits = logits.flatten(1).scatter(1, cells, predicted).unflatten(1, (size, size))
        return found._replace(masks=logits.sigmoid().unflatten(0, (num_images, num_boxes)))

    def learn(
        self, pyramid: list[Tensor], masks: LearntMasks, targets: Targets, keys: Int[Tensor, "B"]
    ) -> dict[str, Tensor]:
        """Compute the loss at some cells of the finest grid of each mask, most of them uncertain."""
        size = masks.logits.shape[2] << self.settings.subdivisions
        coarse = finer(masks.logits.float(), size)
        own_keys = keys[masks.images] + (masks.rois << 32)
        cells = sample_cells(coarse.detach().flatten(1), own_keys, self.settings.num_points)
        logits = self._predict(self.features(pyramid[0]), coarse, masks.boxes, masks.images, cells)
        drawn = draw_targets(targets, masks.boxes, masks.images, masks.objects, size)
        target = drawn.flatten(1).gather(1, cells)
        return {"point_head/point": point_loss(logits, target, masks.weights)}

    def _predict(
        self,
        features: Float[Tensor, "B C H W"],
        coarse: Float[Tensor, "R S S"],
        boxes: Float[Tensor, "R 4"],
        images: Int[Tensor, "R"],
        cells: Int[Tensor, "R N"],
    ) -> Float[Tensor, "R N"]:
        """Compute the logits of some cells: those of the coarse mask, corrected."""
        logits = coarse.flatten(1).gather(1, cells)
        points = centres(cells, boxes, coarse.shape[2]) / self.stride
        x = F.relu(at_points(features, points, images))
        for layer in self.layers:
            x = F.relu(layer(_beside(x, logits)))
        return logits + self.correction(_beside(x, logits)).squeeze(2).float()


def _beside(x: Float[Tensor, "R N C"], logits: Float[Tensor, "R N"]) -> Float[Tensor, "R N C+1"]:
    return torch.cat([x, logits[:, :, None].to(x.dtype)], dim=2)


def finer(logits: Float[Tensor, "R M M"], size: int) -> Float[Tensor, "R {size} {size}"]:
    """Interpolate masks bilinearly between the centres of their cells."""
    return F.interpolate(logits[:, None], size=(size, size), mode="bilinear").squeeze(1)


def least_certain(logits: Float[Tensor, "R n"], num: int) -> Int[Tensor, "R k"]:
    """Return the indices of the `num` logits of each row that are nearest to zero, or of all where there are fewer."""
    return logits.abs().topk(min(num, logits.shape[1]), dim=1, largest=False, sorted=False).indices


def sample_cells(logits: Float[Tensor, "R n"], keys: Int[Tensor, "R"], num: int) -> Int[Tensor, "R {num}"]:
    """Draw `num` of the cells of each row: the least certain of three times as many random ones, then random ones.

    Source: Kirillov et al. 2020, section 3.3.
    """
    num_uncertain, num_candidates = int(UNCERTAIN * num), CANDIDATES * num
    noise = uniform(keys, num_candidates + num - num_uncertain, stream=3)
    cells = (noise * logits.shape[1]).long()
    candidates, others = cells[:, :num_candidates], cells[:, num_candidates:]
    chosen = least_certain(logits.gather(1, candidates), num_uncertain)
    return torch.cat([candidates.gather(1, chosen), others], dim=1)


def centres(cells: Int[Tensor, "R N"], boxes: Float[Tensor, "R 4"], size: int) -> Float[Tensor, "R N 2"]:
    """Return the centres (x, y) of cells, counted row by row, of a grid of `size` x `size` over each box."""
    fractions = (torch.stack([cells % size, cells // size], dim=2) + 0.5) / size
    return boxes[:, None, :2] + fractions * (boxes[:, 2:] - boxes[:, :2])[:, None]


def at_points(
    features: Float[Tensor, "B C H W"], points: Float[Tensor, "R N 2"], images: Int[Tensor, "R"]
) -> Float[Tensor, "R N C"]:
    """Interpolate features bilinearly at points (x, y) in cells of a level, on the image that each row lies on.

    Cell (row i, column j) has its centre at (j + 0.5, i + 0.5); beyond the outermost centres their features hold.
    """
    height, width = features.shape[2:]
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)  # no copy of channels_last
    x, y = (points[..., 0] - 0.5).clamp(0, width - 1), (points[..., 1] - 0.5).clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    across, down = ((a - b)[..., None].to(features.dtype) for a, b in ((x, left), (y, top)))

    def cell(row: Tensor, column: Tensor) -> Float[Tensor, "R N C"]:
        index = (images[:, None] * height + row.long()) * width + column.long()
        return rows.index_select(0, index.flatten()).unflatten(0, (len(images), -1))

    upper = torch.lerp(cell(top, left), cell(top, right), across)
    lower = torch.lerp(cell(bottom, left), cell(bottom, right), across)
    return torch.lerp(upper, lower, down)


def point_loss(
    logits: Float[Tensor, "R N"], targets: Float[Tensor, "R N"], weights: Float[Tensor, "R"]
) -> Float[Tensor, ""]:
    """Compute binary cross-entropy, averaged over each box's points, then by `weights` as `mask_loss`."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (loss.mean(dim=1) * weights).sum()
