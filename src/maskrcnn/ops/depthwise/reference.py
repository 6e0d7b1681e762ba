"""`depthwise` in PyTorch's own words: the definition."""

import torch.nn.functional as F
from torch import Tensor


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, before: bool, after: bool, ceiling: float
) -> Tensor:
    """See `maskrcnn.ops.depthwise.depthwise`."""
    x = F.hardtanh(x, 0.0, ceiling) if before else x
    (top, bottom), (left, right) = (border(side, weight.shape[2], stride) for side in x.shape[2:])
    y = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, groups=len(weight))
    return F.hardtanh(y, 0.0, ceiling, inplace=True) if after else y


def border(side: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `side` pixels: TensorFlow's SAME, which for an odd number has the last one after them.

    >>> border(8, 3, 1), border(8, 3, 2), border(8, 5, 2), border(7, 3, 2)
    ((1, 1), (0, 1), (1, 2), (1, 1))
    """
    missing = max(0, (-(-side // stride) - 1) * stride + taps - side)
    return missing // 2, missing - missing // 2
