"""One update of the weights: micro-batches, the mean of their gradients over all processes, clip, step.

Nothing here waits for the device: losses come back as tensors.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from maskrcnn.distributed import World
from maskrcnn.models.layers import BatchNorm
from maskrcnn.precision import Precision
from maskrcnn.structures import ImageBatch, Targets

COUNT = "count/"
"""Entries of the losses that tell something and are not minimised."""
GRADIENT_NORM = "count/gradient_norm"


class MicroBatch(NamedTuple):
    """Images that go through the model at once, and the random key of each."""

    images: ImageBatch
    targets: Targets
    keys: Int[Tensor, "B"]


@runtime_checkable
class Learner(Protocol):
    """What the step needs of a model."""

    def losses(self, batch: ImageBatch, targets: Targets, keys: Tensor) -> dict[str, Tensor]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...


class Losses(NamedTuple):
    """What one update was made of, still on the device."""

    names: tuple[str, ...]
    mean: Float[Tensor, "n"]
    """Over the images of all processes."""
    parts: Float[Tensor, "m _"]
    """Of each micro-batch of this process, without the norm of the gradient, which belongs to all."""


def update(
    model: Learner,
    optimizer: torch.optim.Optimizer,
    micro_batches: Iterable[MicroBatch],
    *,
    num_micro_batches: int,
    world: World,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    clip_norm: float = 0.0,
) -> Losses:
    """Move the weights once, along the gradient of the mean loss over the images of all processes.

    Every micro-batch of every process holds the same number of images, so that the mean of their means is the
    mean over images. Parameters that no loss reached count as having a gradient of zero: all processes then
    reduce the same tensors, and one without a single object does not keep the others waiting.
    With fp16 an update whose gradient is not finite is left out, and the loss scale falls.
    """
    optimizer.zero_grad(set_to_none=True)
    names: tuple[str, ...] = ()
    parts = []
    for batch in micro_batches:
        with precision.autocast():
            losses = model.losses(*batch)
        names = tuple(losses)
        total = torch.stack([loss for name, loss in losses.items() if not name.startswith(COUNT)]).sum()
        scaler.scale(total / num_micro_batches).backward()
        parts.append(torch.stack([loss.detach().float() for loss in losses.values()]))
    all_parts = torch.stack(parts)
    mean = all_parts.mean(0)
    gradients = _gradients(model)
    world.all_reduce_mean([*gradients, mean, *_running_statistics(model)])
    scaler.unscale_(optimizer)
    norm = get_total_norm(gradients, foreach=True)
    if clip_norm:
        clip_grads_with_norm_(model.parameters(), clip_norm, norm, foreach=True)
    scaler.step(optimizer)
    scaler.update()
    return Losses((*names, GRADIENT_NORM), torch.cat([mean, norm[None]]), all_parts)


def _running_statistics(model: Learner) -> list[Tensor]:
    """Of live batch norms: each process sees its own images, all keep the mean of what they saw."""
    live = [module for module in model.modules() if isinstance(module, BatchNorm) and module.is_live]
    return [buffer for module in live for buffer in module.buffers() if buffer.is_floating_point()]


def _gradients(model: Learner) -> list[Tensor]:
    gradients = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    return gradients
