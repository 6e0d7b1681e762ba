"""One update of the weights: micro-batches, the mean of their gradients over all processes, clip, step.

Nothing here waits for the device: losses come back as tensors. So the whole update can be one recorded graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from maskrcnn.distributed import World
from maskrcnn.execution import Captured, CudaRecorder, Execution, Recorder, compiled
from maskrcnn.models.layers import BatchNorm
from maskrcnn.precision import Precision
from maskrcnn.structures import ImageBatch, MicroBatch, Targets

COUNT = "count/"
"""Entries of the losses that tell something and are not minimised."""
GRADIENT_NORM = "count/gradient_norm"


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


class Updater:
    """Moves the weights once per call, in the way that `execution` says."""

    def __init__(
        self,
        model: Learner,
        optimizer: torch.optim.Optimizer,
        *,
        world: World,
        precision: Precision,
        clip_norm: float = 0.0,
        execution: Execution = "eager",
        recorder: Recorder | None = None,
    ) -> None:
        """`recorder` makes the recordings of every execution but `eager`; None takes the GPU's, if there is one."""
        self.model, self.optimizer, self.world = model, optimizer, world
        self.precision, self.scaler, self.clip_norm = precision, precision.scaler(), clip_norm
        self._losses = compiled(model.losses) if execution == "compiled" else model.losses
        if recorder is None and world.device.type == "cuda":
            recorder = CudaRecorder(world.device)
        self._captured = Captured(self._update, recorder) if recorder and execution != "eager" else None

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> Losses:
        """Along the gradient of the mean loss over the images of all processes.

        Every micro-batch of every process holds the same number of images, so that the mean of their means is the
        mean over images. Parameters that no loss reached count as having a gradient of zero: all processes then
        reduce the same tensors, and one without a single object does not keep the others waiting.
        With fp16 an update whose gradient is not finite is left out, and the loss scale falls.
        """
        if self._captured is None:
            return self._update(micro_batches)
        names, mean, parts = self._captured(list(micro_batches))
        return Losses(names, mean.clone(), parts.clone())

    def _update(self, micro_batches: Sequence[MicroBatch]) -> Losses:
        """Everything between the pictures and the new weights; of it only the kernels are replayed."""
        self.optimizer.zero_grad(set_to_none=True)
        found = [self._learn(batch, len(micro_batches)) for batch in micro_batches]
        parts = torch.stack([torch.stack([loss.detach().float() for loss in losses.values()]) for losses in found])
        mean = parts.mean(0)
        gradients = _gradients(self.model)
        self.world.all_reduce_mean([*gradients, mean, *_running_statistics(self.model)])
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm(gradients, foreach=True)
        if self.clip_norm:
            clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Losses((*found[0], GRADIENT_NORM), torch.cat([mean, norm[None]]), parts)

    def _learn(self, batch: MicroBatch, num_micro_batches: int) -> dict[str, Tensor]:
        """Add a micro-batch's part of the gradient; its losses."""
        with self.precision.autocast():
            losses = self._losses(*batch)
        self.scaler.scale(learnt(losses) / num_micro_batches).backward()
        return losses


def learnt(losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The sum of what is minimised."""
    return torch.stack([loss for name, loss in losses.items() if not name.startswith(COUNT)]).sum()


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
