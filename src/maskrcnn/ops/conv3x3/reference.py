"""`conv3x3` in PyTorch's own words: the definition."""

import torch.nn.functional as F
from torch import Tensor


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool) -> Tensor:
    """See `maskrcnn.ops.conv3x3.conv3x3`."""
    y = F.conv2d(x, weight, bias, stride, padding=1)
    return F.relu(y, inplace=True) if relu else y
