"""The definition of `roi_align` in plain PyTorch: any device, differentiable in the pyramid, static shapes.

Every output bin is a weighted sum of four cells for each of its samples, so the whole op is one `embedding_bag` over
the cells of all levels and images.
"""

from collections.abc import Sequence
from typing import NamedTuple

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


class Placement(NamedTuple):
    """Where each box lies on its own level, (down, right) in units of cells, and how finely it is sampled."""

    start: Float[Tensor, "R 2"]
    sides: Float[Tensor, "R 2"]
    counts: Int[Tensor, "R 2"]
    """Samples of each output bin."""


def place(
    boxes: Float[Tensor, "R 4"],
    levels: Int[Tensor, "R"],
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    output_size: int,
    samples: int,
    half_pixel: bool,
) -> Placement:
    """Place boxes on their levels, whose (height, width) in cells are `sizes`.

    samples   0 takes the cells of a bin, rounded up; more than a level has make no sense, and come from broken boxes
    """
    scale = 1.0 / _of_level(levels, strides)[:, None]
    shift = 0.5 if half_pixel else 0.0
    start = boxes[:, :2].flip(1) * scale - shift
    sides = (boxes[:, 2:].flip(1) * scale - shift) - start
    if not half_pixel:
        sides = sides.clamp(min=1.0)
    if samples:
        return Placement(start, sides, torch.full_like(start, samples, dtype=torch.int64))
    most = torch.stack(
        [_of_level(levels, [_ceil_div(size[axis], output_size) for size in sizes]) for axis in (0, 1)], 1
    )
    counts = torch.minimum(torch.ceil(sides / output_size).nan_to_num(nan=1.0), most.to(sides.dtype))
    return Placement(start, sides, counts.clamp(min=1).long())


def most_samples(
    sizes: Sequence[tuple[int, int]], *, output_size: int, samples: int, canonical_size: int, canonical_level: int
) -> int:
    """Most samples of a bin; with `samples` 0 a bound from the sizes of the levels and the rule that fills them.

    On all levels but the coarsest a box covers less than `limit` square cells, with h + w largest where one of them
    spans the level; (h / S + 1) * (w / S + 1) bounds the samples.
    """
    if samples:
        return samples**2
    limit = (2 * canonical_size / 2**canonical_level) ** 2 * 1.0001
    most = 1
    for number, (height, width) in enumerate(sizes):
        whole = _ceil_div(height, output_size) * _ceil_div(width, output_size)
        perimeter = max(height + limit / height, width + limit / width)
        bound = int(limit / output_size**2 + perimeter / output_size + 1)
        most = max(most, whole if number == len(sizes) - 1 else min(whole, bound))
    return most


def roi_align(
    pyramid: list[Float[Tensor, "B C _ _"]],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, "R"],
    strides: Sequence[int],
    output_size: int,
    samples: int,
    half_pixel: bool,
    canonical_size: int,
    canonical_level: int,
) -> Float[Tensor, "R C output_size output_size"]:
    """See `maskrcnn.ops.roi_align.roi_align`."""
    num_images, channels = pyramid[0].shape[:2]
    num_rois = len(boxes)
    levels = roi_levels(boxes, strides, canonical_size, canonical_level)
    sizes = [(level.shape[2], level.shape[3]) for level in pyramid]
    bins = {"output_size": output_size, "samples": samples}
    start, sides, counts = place(boxes, levels, sizes, strides, half_pixel=half_pixel, **bins)
    heights, widths = (_of_level(levels, [size[axis] for size in sizes]) for axis in (0, 1))

    # The samples of a bin are numbered row by row: of each RoI its own number, of all the most there can be.
    most = most_samples(sizes, canonical_size=canonical_size, canonical_level=canonical_level, **bins)
    number = torch.arange(most, device=boxes.device)
    rows, columns = counts[:, :1], counts[:, 1:]
    y, y_weights = _taps(start[:, 0], sides[:, 0], rows, number // columns, heights, output_size)
    x, x_weights = _taps(start[:, 1], sides[:, 1], columns, number % columns, widths, output_size)
    # Axes: RoI, bin row, bin column, sample, tap of the row, tap of the column.
    y, y_weights = (t.view(num_rois, output_size, 1, most, 2, 1) for t in (y, y_weights))
    x, x_weights = (t.view(num_rois, 1, output_size, most, 1, 2) for t in (x, x_weights))
    share = (number < rows * columns) / (rows * columns).to(boxes.dtype)

    num_cells = [num_images * height * width for height, width in sizes]
    first_cell = _of_level(levels, [sum(num_cells[:index]) for index in range(len(pyramid))])
    first_cell = (first_cell + images * heights * widths).view(-1, 1, 1, 1, 1, 1)
    cell = first_cell + y * widths.view(-1, 1, 1, 1, 1, 1) + x
    weight = y_weights * x_weights * share.view(num_rois, 1, 1, most, 1, 1)

    cells = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in pyramid]).to(boxes.dtype)
    taps = (num_rois * output_size**2, 4 * most)
    pooled = F.embedding_bag(cell.reshape(taps), cells, per_sample_weights=weight.reshape(taps), mode="sum")
    return pooled.view(num_rois, output_size, output_size, channels).permute(0, 3, 1, 2).to(pyramid[0].dtype)


def _of_level(levels: Int[Tensor, "R"], values: Sequence[int]) -> Int[Tensor, "R"]:
    """values[level] of each box. By comparison: a table would be copied to the device, and waited for."""
    return torch.stack([(levels == level) * value for level, value in enumerate(values)]).sum(dim=0)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _taps(
    start: Float[Tensor, "R"],
    side: Float[Tensor, "R"],
    count: Int[Tensor, "R 1"],
    number: Int[Tensor, "R T"],
    size: Int[Tensor, "R"],
    output_size: int,
) -> tuple[Int[Tensor, "R output_size T 2"], Float[Tensor, "R output_size T 2"]]:
    """The two cells beside some samples along one axis of each bin, and their weights.

    count    even samples of a bin, of which `number` are asked for
    Samples more than one cell outside weigh nothing, nearer ones take the border cell.
    """
    offset = torch.arange(output_size, device=start.device)[:, None] * count[..., None] + number[:, None] + 0.5
    position = start[:, None, None] + offset * (side[:, None] / (count * output_size))[..., None]
    inside = (position >= -1.0) & (position <= size[:, None, None])
    last = size[:, None, None] - 1
    position = torch.minimum(torch.where(inside, position, 0.0).clamp(min=0), last)
    low = position.long()
    high = torch.minimum(low + 1, last)
    share = position - low
    return torch.stack([low, high], -1), torch.stack([1 - share, share], -1) * inside[..., None]
