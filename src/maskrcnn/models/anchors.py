"""Anchors, the reference boxes of the RPN: a fixed set in every cell of every level."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def cell_anchors(size: float, aspect_ratios: Sequence[float], *, rounded: bool = False) -> Float[Tensor, "A 4"]:
    """Make boxes around the origin with the area of a square of side `size`; ratio is height over width.

    rounded   whether corners are rounded to whole pixels, half to even
    """
    ratios = torch.tensor(aspect_ratios)
    width, height = size / ratios.sqrt(), size * ratios.sqrt()
    anchors = 0.5 * torch.stack([-width, -height, width, height], dim=-1)
    return anchors.round() if rounded else anchors


def level_anchors(
    base: Float[Tensor, "A 4"], *, height: int, width: int, stride: tuple[int, int], offset: float = 0.5
) -> Float[Tensor, "N 4"]:
    """Place every base box in every cell, row by row; those of cell (i, j) are centred at ((j, i) + offset) * stride.

    stride   pixels (down, right) from cell to cell
    """
    y = (torch.arange(height, device=base.device) + offset) * stride[0]
    x = (torch.arange(width, device=base.device) + offset) * stride[1]
    centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)] * 2, dim=-1)
    return (centres[:, :, None] + base).reshape(-1, 4)
