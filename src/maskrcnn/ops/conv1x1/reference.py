"""`conv1x1` in PyTorch's own words: the definition."""

import math

import torch.nn.functional as F
from torch import Tensor

from maskrcnn.ops.relu import rectify


def conv1x1(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: int,
    relu: bool,
    ceiling: float = math.inf,
) -> Tensor:
    """See `maskrcnn.ops.conv1x1.conv1x1`."""
    y = F.conv2d(x, weight, bias, stride)
    return rectify(y if residual is None else y + residual, relu, ceiling)
