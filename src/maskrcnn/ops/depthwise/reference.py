"""`depthwise` in PyTorch's own words: the definition."""

import torch.nn.functional as F
from torch import Tensor

from maskrcnn.ops.relu import rectify


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, ceiling: float) -> Tensor:
    """See `maskrcnn.ops.depthwise.depthwise`."""
    (top, bottom), (left, right) = (border(side, weight.shape[2], stride) for side in x.shape[2:])
    x = F.pad(x, (left, right, top, bottom))
    return rectify(F.conv2d(x, weight, bias, stride, groups=len(weight)), relu, ceiling)


def border(side: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `side` pixels: TensorFlow's SAME, which for an odd number has the last one after them.

    >>> border(8, 3, 1), border(8, 3, 2), border(8, 5, 2), border(7, 3, 2)
    ((1, 1), (0, 1), (1, 2), (1, 1))
    """
    missing = max(0, (-(-side // stride) - 1) * stride + taps - side)
    return missing // 2, missing - missing // 2
