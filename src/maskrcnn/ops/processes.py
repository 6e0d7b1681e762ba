"""What the processes of a run tell each other inside the network, as one node for compilers and with a gradient."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.operator import operator


def num_processes() -> int:
    """Number of processes that train together; 1 where none were started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Float[Tensor, "*n"]) -> Float[Tensor, "P *n"]:
    """Stack the tensors of all processes, in order of rank, in every process.

    All processes give tensors of one shape and type, in the same order of calls. The gradient of a process's tensor is
    the sum of those that all processes have for it: processes add up one loss.
    Raises ConnectionError where a process stopped.
    """
    if num_processes() == 1:
        return x[None]
    stacked: Tensor = torch.ops.maskrcnn.gather(x, num_processes())
    return stacked


@operator("gather")
def _gather(x: Tensor, num: int) -> Tensor:
    # A sum with zeros is exact, and the only collective that every backend has.
    stacked = x.new_zeros((num, *x.shape))
    stacked[dist.get_rank()] = x
    _add_up(stacked)
    return stacked


@_gather.register_fake
def _(x: Tensor, num: int) -> Tensor:
    return x.new_empty((num, *x.shape))


@operator("gather_backward")
def _gather_backward(gradient: Tensor) -> Tensor:
    total = gradient.clone(memory_format=torch.contiguous_format)
    _add_up(total)
    return total[dist.get_rank()].clone()


@_gather_backward.register_fake
def _(gradient: Tensor) -> Tensor:
    return gradient.new_empty(gradient.shape[1:])


_gather.register_autograd(
    lambda ctx, gradient: (torch.ops.maskrcnn.gather_backward(gradient), None), setup_context=lambda *_, **__: None
)


def _add_up(x: Tensor) -> None:
    try:
        dist.all_reduce(x)
    except RuntimeError as error:
        raise ConnectionError(
            f"process {dist.get_rank()} of {dist.get_world_size()} lost the others while they shared the statistics of "
            "a batch norm: one of them stopped, and its own message says why, or the network broke"
        ) from error
