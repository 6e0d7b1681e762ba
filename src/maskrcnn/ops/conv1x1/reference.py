"""`conv1x1` in PyTorch's own words: the definition."""

import torch.nn.functional as F
from torch import Tensor


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, stride: int, relu: bool) -> Tensor:
    """See `maskrcnn.ops.conv1x1.conv1x1`."""
    y = F.conv2d(x, weight, bias, stride)
    y = y if residual is None else y + residual
    return F.relu(y, inplace=True) if relu else y
