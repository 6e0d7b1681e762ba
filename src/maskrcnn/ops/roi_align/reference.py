"""The definition of `roi_align` in plain PyTorch: any device, differentiable in the pyramid, static shapes.

Every output bin is a weighted sum of 4 * samples**2 cells, so the whole op is one `embedding_bag` over the cells of
all levels and images.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.boxes import area


def roi_levels(
    boxes: Float[Tensor, "R 4"], strides: Sequence[int], canonical_size: int = 224, canonical_level: int = 4
) -> Int[Tensor, "R"]:
    """Index into the pyramid of the level that suits the size of each box.

    A box of canonical_size x canonical_size pixels belongs to the level of stride 2**canonical_level, one of half the
    side to the level below; boxes too small or too large for the pyramid go to its ends, NaN to its finest level.
    Source: Lin et al. 2017, eq. 1.
    """
    finest = strides[0].bit_length() - 1
    # 1e-6 keeps a side of exactly half or twice the canonical size on its level when the logarithm rounds down.
    level = torch.floor(canonical_level + torch.log2(area(boxes).sqrt() / canonical_size) + 1e-6)
    return (level - finest).nan_to_num(nan=0.0).clamp(0, len(strides) - 1).long()


def roi_align(
    pyramid: list[Float[Tensor, "B C _ _"]],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, "R"],
    *,
    strides: Sequence[int],
    output_size: int,
    samples: int,
    canonical_size: int,
    canonical_level: int,
) -> Float[Tensor, "R C output_size output_size"]:
    """See `maskrcnn.ops.roi_align.roi_align`."""
    num_images, channels = pyramid[0].shape[:2]
    num_rois, num_bins = len(boxes), output_size**2
    levels = roi_levels(boxes, strides, canonical_size, canonical_level)
    heights, widths = (_of_level(levels, [level.shape[axis] for level in pyramid]) for axis in (2, 3))
    scale = 1.0 / _of_level(levels, strides)

    count = output_size * samples
    y, y_weights = _taps(boxes[:, 1] * scale - 0.5, (boxes[:, 3] - boxes[:, 1]) * scale, heights, count)
    x, x_weights = _taps(boxes[:, 0] * scale - 0.5, (boxes[:, 2] - boxes[:, 0]) * scale, widths, count)
    # Axes: RoI, bin row, bin column, taps of the row, taps of the column.
    y, y_weights = (t.view(num_rois, output_size, 1, 2 * samples, 1) for t in (y, y_weights))
    x, x_weights = (t.view(num_rois, 1, output_size, 1, 2 * samples) for t in (x, x_weights))

    num_cells = [num_images * level.shape[2] * level.shape[3] for level in pyramid]
    first_cell = _of_level(levels, [sum(num_cells[:index]) for index in range(len(pyramid))])
    first_cell = (first_cell + images * heights * widths).view(-1, 1, 1, 1, 1)
    cell = first_cell + y * widths.view(-1, 1, 1, 1, 1) + x
    weight = y_weights * x_weights / samples**2

    cells = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in pyramid]).to(boxes.dtype)
    taps = (num_rois * num_bins, 4 * samples**2)
    pooled = F.embedding_bag(cell.reshape(taps), cells, per_sample_weights=weight.reshape(taps), mode="sum")
    return pooled.view(num_rois, output_size, output_size, channels).permute(0, 3, 1, 2).to(pyramid[0].dtype)


def _of_level(levels: Int[Tensor, "R"], values: Sequence[int]) -> Int[Tensor, "R"]:
    """values[level] of each box. By comparison: a table would be copied to the device, and waited for."""
    return torch.stack([(levels == level) * value for level, value in enumerate(values)]).sum(dim=0)


def _taps(
    start: Float[Tensor, "R"], length: Float[Tensor, "R"], size: Int[Tensor, "R"], count: int
) -> tuple[Int[Tensor, "R count 2"], Float[Tensor, "R count 2"]]:
    """The two cells beside each of `count` even samples along one axis, and their weights.

    Samples more than one cell outside weigh nothing, nearer ones take the border cell.
    """
    offset = torch.arange(count, device=start.device) + 0.5
    position = start[:, None] + offset * (length / count)[:, None]
    inside = (position >= -1.0) & (position <= size[:, None])
    last = size[:, None] - 1
    position = torch.minimum(torch.where(inside, position, 0.0).clamp(min=0), last)
    low = position.long()
    high = torch.minimum(low + 1, last)
    share = position - low
    return torch.stack([low, high], -1), torch.stack([1 - share, share], -1) * inside[..., None]
