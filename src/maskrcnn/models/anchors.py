"""Reference boxes of the RPN: a fixed set on the centre of every cell of every level."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def cell_anchors(size: float, aspect_ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """Boxes around the origin with the area of a square of side `size`; ratio is height over width."""
    ratios = torch.tensor(aspect_ratios)
    width, height = size / ratios.sqrt(), size * ratios.sqrt()
    return 0.5 * torch.stack([-width, -height, width, height], dim=-1)


def level_anchors(base: Float[Tensor, "A 4"], *, height: int, width: int, stride: int) -> Float[Tensor, "N 4"]:
    """Every base box on every cell, row by row; cell (i, j) is centred at ((j + 0.5), (i + 0.5)) * stride."""
    x = (torch.arange(width, device=base.device) + 0.5) * stride
    y = (torch.arange(height, device=base.device) + 0.5) * stride
    centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)] * 2, dim=-1)
    return (centres[:, :, None] + base).reshape(-1, 4)
