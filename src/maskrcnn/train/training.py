"""A run at some step: what it has learnt so far, and what it keeps and tells of that."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from maskrcnn.config import Recipe
from maskrcnn.data.loader import Loader
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.transforms import RawBatch
from maskrcnn.evaluate.run import evaluate, versions
from maskrcnn.evaluate.save import short
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.run_folder import BEST, CHECKPOINTS, EVALUATION, LAST
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.memory import explain_out_of_memory, peak_memory
from maskrcnn.sentences import typed
from maskrcnn.structures import MicroBatch
from maskrcnn.train import checkpoint
from maskrcnn.train.log import Log, evaluations, quality
from maskrcnn.train.optimizer import Average, set_rate, state_tensors
from maskrcnn.train.plan import Plan, Splits
from maskrcnn.train.schedule import base_rate, learning_rate
from maskrcnn.train.step import Updater
from maskrcnn.train.stopwatch import stopwatch_for
from maskrcnn.train.window import StepRecord, Window
from maskrcnn.weights import save_weights


@dataclass(eq=False)
class Training:
    """Everything that a run holds."""

    recipe: Recipe
    """The recipe, with the classes of the data."""
    out: Path
    world: World
    log: Log
    splits: Splits
    plan: Plan
    model: MaskRCNN
    update: Updater
    make: Callable[[RawBatch], MicroBatch]
    average: Average | None
    step: int
    """Number of updates so far."""
    window: Window
    """Steps since the last line of the log."""
    oddities: Oddities = field(default_factory=Oddities)
    """What was met in the images so far."""

    def learn(self, loader: Loader, parts: Iterable[tuple[RawBatch, MicroBatch]]) -> None:
        """One update of the weights and of their average."""
        watch, waited, shares = self.window.stopwatch, loader.waited_seconds, self.plan.shares
        watch.fetch()
        raws, batches = zip(*islice(parts, shares.parts), strict=True)
        watch.begin(loader.waited_seconds - waited)
        set_rate(self.update.optimizer, self._rate(self.step))
        with explain_out_of_memory(self.world.device, shares.images, raws[0].bucket, self._less_memory()):
            losses = self.update(batches)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        watch.end()
        self.log.advance()
        self.window.steps.append(StepRecord(self.step, losses, [raw.image_ids.tolist() for raw in raws]))

    def tell(self, epoch: int) -> None:
        """A line of the log on the steps since the last one."""
        self.log.steps(
            self.window.read(),
            step=self.step,
            total_steps=self.plan.total_steps,
            epoch=epoch + 1,
            lr=self._rate(self.step - 1),
            images=self.recipe.train.batch,
            memory=peak_memory(self.world.device),
        )
        self.window = new_window(self.update)

    def save(self) -> None:
        """Write a checkpoint, unless the losses say that the weights are spoilt."""
        self.window.check()
        self.window.stopwatch.pause()
        self._write_checkpoint()
        self.world.barrier()

    def rescue(self) -> None:
        """Keep what was learnt before an image could not be read; other processes, if any, are not waited for."""
        if not self.world.is_main or not self.step or (self.out / CHECKPOINTS / f"step-{self.step}").exists():
            return
        with suppress(FloatingPointError):
            self.window.check()
            self._write_checkpoint()
            self.log.say(
                f"what was learnt up to step {self.step} is kept; with all images restored, "
                f"{typed('--resume')} auto {typed('--out')} {self.log.called} goes on"
            )

    def _write_checkpoint(self) -> None:
        if not self.world.is_main:
            return
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": state_tensors(self.update.optimizer, self.model),
            **({} if self.average is None else {"average": self.average.tensors()}),
        }
        state = {
            "recipe": msgspec.to_builtins(self.recipe),
            "num_images": len(self.splits.training.image_ids),
            "scaler": self.update.scaler.state_dict(),
            "versions": versions(self.world),
        }
        checkpoint.save(self.out / CHECKPOINTS, self.step, tensors, state, keep=self.recipe.train.keep_checkpoints)

    def evaluate(self, epoch: int) -> None:
        """Score the weights that are kept, unless that was done before the run was stopped."""
        if self.world.any(self.world.is_main and any(row["step"] == self.step for row in evaluations(self.out))):
            return
        assert self.splits.validation is not None, "read whenever there are evaluations"
        out, ticker, data = self.out / EVALUATION, self.log.ticker(), self.splits.validation
        metrics = evaluate(self.kept_model, data, self.recipe, self.world, out, ticker, say=self.log.say)
        if self.world.is_main:
            before = [quality(row["evaluation"]) for row in evaluations(self.out)]
            if quality(metrics) >= max(before, default=0.0):
                self.keep(BEST, short(metrics))
            self.keep(LAST, short(metrics))
            self.log.evaluation(metrics, step=self.step, epoch=epoch + 1)  # last: it says that all of this is done

    def keep(self, name: str, metrics: dict[str, Any]) -> None:
        """Write the weights to a folder of the run."""
        if self.world.is_main:
            save_weights(self.out / name, self.kept_model, self.recipe, metrics)

    @property
    def kept_model(self) -> nn.Module:
        """The model whose weights are evaluated and kept."""
        return self.model if self.average is None else self.average.model

    def summary(self) -> str:
        """What is going to be done, in one line."""
        shares = self.plan.shares
        split = f" (processes x micro-batches x images: {' x '.join(map(str, shares))})" if max(shares[:2]) > 1 else ""
        start = f", going on after step {self.step}" if self.step else ""
        dtype = str(self.update.precision.dtype).removeprefix("torch.")
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        return (
            f"{self.plan.total_steps} steps of {self.recipe.train.batch} images{split}, "
            f"{self.plan.steps_per_epoch} in an epoch{start}; {self.world.device}, {dtype}, {self.update.execution}; "
            f"{trained / 1e6:.1f} million trained parameters"
        )

    def _rate(self, step: int) -> float:
        train = self.recipe.train
        return learning_rate(
            step,
            train.schedule,
            base=base_rate(train.optimizer, train.batch),
            steps_per_epoch=self.plan.steps_per_epoch,
            total_steps=self.plan.total_steps,
        )

    def _less_memory(self) -> str:
        """What a person can do whose device is too small for this recipe."""
        settings, images = self.recipe.train, self.plan.shares.images
        remedies = {
            f"train.micro_batch={max(1, images // 2)} (the same batch, in more parts)": images > 1,
            "train.mixed_precision=true": not settings.mixed_precision,
            "train.recompute=true": not settings.recompute,
            f"a smaller data.short_sides than {max(self.recipe.data.short_sides)}": True,
            f"a smaller model.mask_head.num_rois than {self.recipe.model.mask_head.num_rois}": True,
        }
        return "what helps: " + ", ".join(remedy for remedy, is_new in remedies.items() if is_new)


def new_window(update: Updater) -> Window:
    """An empty window over the next steps."""
    return Window(stopwatch_for(update.world.device), overflow_allowed=update.scaler.is_enabled())
