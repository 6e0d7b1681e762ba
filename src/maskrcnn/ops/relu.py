"""ReLU and ReLU6, as what other operators end in."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rectify(x: Float[Tensor, "*shape"], relu: bool, ceiling: float = math.inf) -> Float[Tensor, "*shape"]:
    """Replace numbers below zero by zero, where asked, and those above `ceiling` by it, in place; NaN passes through."""
    if not relu:
        return x
    return F.relu(x, inplace=True) if ceiling == math.inf else F.hardtanh(x, 0.0, ceiling, inplace=True)


def gated(
    grad: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"] | None, ceiling: float = math.inf
) -> Float[Tensor, "*shape"]:
    """The gradient before a ReLU, from the one behind it and the result, which is None where there is no ReLU."""
    if y is None:
        return grad
    if ceiling == math.inf:
        return torch.ops.aten.threshold_backward(grad, y, 0)
    return torch.ops.aten.hardtanh_backward(grad, y, 0, ceiling)
