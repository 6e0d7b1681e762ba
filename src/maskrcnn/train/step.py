"""One update of the weights: micro-batches, the mean of their gradients over all processes, clip, step.

Nothing here waits for the device: losses come back as tensors. So the whole update can be one recorded graph.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from maskrcnn.models.layers import BatchNorm
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import Captured, CudaRecorder, Execution, Recorder, compiled
from maskrcnn.runtime.ladder import FailedElsewhereError, Ladder
from maskrcnn.runtime.precision import Precision
from maskrcnn.structures import ImageBatch, MicroBatch, Targets
from maskrcnn.train.optimizer import load_state_tensors, state_tensors

COUNT = "count/"
"""Entries of the losses that tell something and are not minimised."""
GRADIENT_NORM = "count/gradient_norm"
LOSSES_APART = {torch.float32: 1e-2, torch.bfloat16: 2e-1, torch.float16: 2e-1}
"""Tolerances of the first losses and gradients, see `losses_apart`: half precision turns the order of proposals that
are nearly as good, and with it what is sampled from them."""
GRADIENT_SHARE = 0.1
"""Share of a difference of gradients that counts: bf16 and float32 give norms up to twice as large, losses 0.1
apart."""


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
    """Mean of each over the images of all processes."""
    parts: Float[Tensor, "m _"]
    """Losses of each micro-batch of this process, without the norm of the gradient, which belongs to all."""


LossFunction = Callable[[ImageBatch, Targets, Tensor], dict[str, Tensor]]


class Updater:
    """Moves the weights once per call, in the first of some ways that holds."""

    def __init__(
        self,
        model: Learner,
        optimizer: torch.optim.Optimizer,
        *,
        world: World,
        precision: Precision,
        clip_norm: float = 0.0,
        rungs: Sequence[Execution] = ("eager",),
        recorder: Recorder | None = None,
        say: Callable[[str], None] = warnings.warn,
        batch: int | None = None,
    ) -> None:
        """An updater on its first rung.

        rungs      ways to run, best first, see `Ladder`; one alone is insisted on
        recorder   makes the recordings of every one but `eager`; None takes the GPU's, if there is one
        say        told when a way does not hold
        batch      images of a step in all processes; None where each has as many as this one
        """
        self.batch = batch
        self.model, self.optimizer, self.world = model, optimizer, world
        self.precision, self.scaler, self.clip_norm = precision, precision.scaler(), clip_norm
        if recorder is None and world.device.type == "cuda" and rungs[0] != "eager":
            recorder = CudaRecorder(world.device)
        self._rungs, self._recorder, self._ladder = rungs, recorder, None
        if len(rungs) == 1:
            self._runs = self._built(rungs[0])
            return
        self._runs = self._ladder = Ladder(
            rungs,
            self._built,
            name="train.execution",
            say=say,
            expect=self._expected,
            apart=losses_apart,
            tolerance=LOSSES_APART[precision.dtype],
            keep=self._kept,
            any_process=world.any,
        )

    def _built(self, execution: Execution) -> Callable[[Sequence[MicroBatch]], Losses]:
        losses = compiled(self.model.losses) if execution == "compiled" else self.model.losses
        update = partial(self._update, losses)
        return Captured(update, self._recorder) if self._recorder and execution != "eager" else update

    @property
    def execution(self) -> Execution:
        """The way that updates run at present."""
        return self._rungs[0] if self._ladder is None else self._ladder.execution

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> Losses:
        """Move the weights along the gradient of the mean loss over the images of all processes.

        Each micro-batch counts by its number of images, which may differ, between processes too: losses are means over
        images, and so is the gradient. Parameters that no loss reached count as having a gradient of zero: all
        processes then reduce the same tensors, and one without a single object does not keep the others waiting.
        With fp16 an update whose gradient is not finite is left out, and the loss scale falls.
        """
        names, mean, parts = self._runs(list(micro_batches))
        return Losses(names, mean.clone(), parts.clone())  # which a recording's next replay overwrites

    def _update(self, losses_of: LossFunction, micro_batches: Sequence[MicroBatch]) -> Losses:
        """Everything between the images and the new weights; of it only the kernels are replayed."""
        names, mean, parts = self._differentiated(losses_of, micro_batches)
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm(_gradients(self.model), foreach=True)
        if self.clip_norm:
            clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Losses((*names, GRADIENT_NORM), torch.cat([mean, norm[None]]), parts)

    def _differentiated(self, losses_of: LossFunction, micro_batches: Sequence[MicroBatch]) -> Losses:
        """The losses, without the norm of the gradient, which lies scaled in the parameters, all over all processes."""
        self.optimizer.zero_grad(set_to_none=True)
        found = self._learn_all(losses_of, micro_batches)
        parts = torch.stack([torch.stack([loss.detach().float() for loss in losses.values()]) for losses in found])
        mean = torch.stack([part / n for part, n in zip(parts, self._divisors(micro_batches), strict=True)]).sum(0)
        self.world.all_reduce_mean([*_gradients(self.model), mean, *_running_statistics(self.model)])
        return Losses(tuple(found[0]), mean, parts)

    def _learn_all(self, losses_of: LossFunction, micro_batches: Sequence[MicroBatch]) -> list[dict[str, Tensor]]:
        """The losses of each micro-batch, whose gradients are added up.

        In a trial what fails in one process fails in all, before they wait for it to reduce with them.
        """
        is_trial = self._ladder is not None and self._ladder.is_trying
        try:
            divisors = self._divisors(micro_batches)
            found = [self._learn(losses_of, *one) for one in zip(micro_batches, divisors, strict=True)]
        except Exception:
            if is_trial:
                self.world.any(True)
            raise
        if is_trial and self.world.any(False):
            raise FailedElsewhereError
        return found

    def _expected(self, micro_batches: Sequence[MicroBatch]) -> Losses:
        """The losses line by line, and the norm of the gradient, with nothing changed by them."""

        def run() -> Losses:
            names, mean, parts = self._differentiated(self.model.losses, micro_batches)
            norm = get_total_norm(_gradients(self.model), foreach=True) / self.scaler.scale(mean.new_ones(()))
            return Losses((*names, GRADIENT_NORM), torch.cat([mean, norm[None]]), parts)

        live = [buffer for module in _live_norms(self.model) for buffer in module.buffers()]
        before = [buffer.clone() for buffer in live]
        try:
            return self._recorder.run(run) if self._recorder else run()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, value in zip(live, before, strict=True):
                buffer.copy_(value)

    def _kept(self) -> Callable[[], None]:
        """Copies what an update changes to the host, which has room; returns what brings it back."""
        assert isinstance(self.model, nn.Module), "with weights that have names"
        model, scaler = self.model, self.scaler.state_dict()
        weights, states = _on_host(model.state_dict()), _on_host(state_tensors(self.optimizer, model))

        def bring_back() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            model.load_state_dict(weights)
            load_state_tensors(self.optimizer, model, states)
            if self.scaler.is_enabled():
                self.scaler = self.precision.scaler()  # the other one may be in the middle of a step
                self.scaler.load_state_dict(scaler)

        return bring_back

    def _divisors(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """What each micro-batch's means are divided by, so that the mean over processes is the mean over images."""
        images = [len(one.keys) for one in micro_batches]
        share = sum(images) if self.batch is None else self.batch / self.world.size
        return [share / number for number in images]

    def _learn(self, losses_of: LossFunction, batch: MicroBatch, divisor: float) -> dict[str, Tensor]:
        """Add a micro-batch's part of the gradient; its losses."""
        with self.precision.autocast():
            losses = losses_of(*batch)
        self.scaler.scale(learnt(losses) / divisor).backward()
        return losses


def learnt(losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The sum of what is minimised."""
    return torch.stack([loss for name, loss in losses.items() if not name.startswith(COUNT)]).sum()


def losses_apart(found: Losses, expected: Losses) -> float:
    """How far the losses of a step are from others of the same batch, and its gradient's norm from the other's.

    The largest difference of the losses counts, as a share of their sum, and `GRADIENT_SHARE` of the norm's. What is
    not finite in both is no difference, in one of them an infinite one.
    """
    ours, theirs = (dict(zip(one.names, one.mean.tolist(), strict=True)) for one in (found, expected))
    total = sum(abs(value) for name, value in theirs.items() if not name.startswith(COUNT))
    scales = {name: total for name in theirs if not name.startswith(COUNT)} | {
        GRADIENT_NORM: theirs[GRADIENT_NORM] / GRADIENT_SHARE
    }
    return max(_apart(ours[name], theirs[name], scale) for name, scale in scales.items())


def _apart(one: float, other: float, scale: float) -> float:
    if math.isfinite(one) != math.isfinite(other):
        return math.inf
    return abs(one - other) / max(scale, 1e-6) if math.isfinite(one) else 0.0


def _on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _live_norms(model: Learner) -> list[BatchNorm]:
    return [module for module in model.modules() if isinstance(module, BatchNorm) and module.is_live]


def _running_statistics(model: Learner) -> list[Tensor]:
    """Statistics of live batch norms: each process sees its own images, all keep the mean of what they saw."""
    return [buffer for module in _live_norms(model) for buffer in module.buffers() if buffer.is_floating_point()]


def _gradients(model: Learner) -> list[Tensor]:
    gradients = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    return gradients
