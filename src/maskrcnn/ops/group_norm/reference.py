"""`group_norm` in plain PyTorch: the definition, on any device and for any floating type."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def group_norm(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    *,
    groups: int,
    eps: float,
    relu: bool,
) -> Float[Tensor, "B C H W"]:
    """See `maskrcnn.ops.group_norm.group_norm`."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    y = F.group_norm(x.to(dtype), groups, weight.to(dtype), bias.to(dtype), eps).to(x.dtype)
    return F.relu(y, inplace=True) if relu else y
