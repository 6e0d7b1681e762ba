"""A run at some step: what it has learnt so far, and what it keeps and tells of that."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from torch import Tensor, nn

from maskrcnn.config import Recipe
from maskrcnn.data.loader import Loader
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.transforms import RawBatch
from maskrcnn.evaluate.coco import percent
from maskrcnn.evaluate.run import evaluate, versions
from maskrcnn.evaluate.save import short
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.run_folder import BEST, CHECKPOINTS, EVALUATION, LAST
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.memory import explain_out_of_memory, peak_memory
from maskrcnn.sentences import counted
from maskrcnn.structures import MicroBatch
from maskrcnn.train import checkpoint
from maskrcnn.train.background import Background, HostMemory
from maskrcnn.train.budget import Budget, apart, store
from maskrcnn.train.divergence import Course
from maskrcnn.train.log import Log, evaluations, is_stale, quality
from maskrcnn.train.optimizer import Average, set_rate, state_tensors
from maskrcnn.train.plan import Plan, Splits
from maskrcnn.train.resume import growth, way_back
from maskrcnn.train.schedule import base_rate, learning_rate
from maskrcnn.train.skips import Skips
from maskrcnn.train.step import Updater
from maskrcnn.train.stopwatch import stopwatch_for
from maskrcnn.train.window import StepRecord, Window
from maskrcnn.weights import save_weights

Fetched = tuple[RawBatch, MicroBatch]
"""A micro-batch, as decoded and as the network sees it."""
T = TypeVar("T")


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
    data: dict[str, Any]
    """`identity` of the training data."""
    background: Background
    """What writes checkpoints."""
    course: Course = field(default_factory=Course)
    """The losses up to now."""
    saved: int = 0
    """Step whose checkpoint is written or on its way."""
    memory: HostMemory = field(default_factory=HostMemory)
    """Where tensors lie while they are written."""
    oddities: Oddities = field(default_factory=Oddities)
    """What was met in the images so far."""

    rate: float = 0.0
    """Learning rate of the last update."""
    budget: Budget | None = None
    """The time that the run fits into, if one was given."""
    is_in_step: bool = False
    """Whether an update has begun and is not done: then this is the state of no step."""

    def __post_init__(self) -> None:
        self.skips = Skips(self.out, self.recipe.data.skip_unreadable, self.step)

    def fetch(self, loader: Loader, parts: Iterable[Fetched]) -> list[Fetched]:
        """The images of the next step."""
        watch, waited = self.window.stopwatch, loader.waited_seconds
        watch.fetch()
        fetched = list(islice(parts, self.plan.shares.parts))
        watch.begin(loader.waited_seconds - waited)
        return fetched

    def learn(self, fetched: Sequence[Fetched]) -> None:
        """One update of the weights and of their average."""
        watch, shares = self.window.stopwatch, self.plan.shares
        raws, batches = zip(*fetched, strict=True)
        self.world.doing(f"training, step {self.step + 1}")
        self.is_in_step = True
        self.rate = self._rate(self.step)
        set_rate(self.update.optimizer, self.rate)
        with explain_out_of_memory(self.world.device, shares.images, raws[0].bucket, self._less_memory()):
            losses = self.update(batches)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        self.is_in_step = False
        watch.end()
        self.log.advance()
        self.window.steps.append(StepRecord(self.step, losses, [raw.image_ids.tolist() for raw in raws]))

    def tell(self, epoch: int) -> None:
        """A line of the log on the steps since the last one."""
        self.log.steps(
            self._counted(self.window.read),
            step=self.step,
            total_steps=self.plan.total_steps,
            epoch=epoch + 1,
            lr=self.rate,
            images=self.recipe.train.batch,
            memory=peak_memory(self.world.device),
            left=None if self.budget is None else self.budget.left,
        )
        self.window = new_window(self.update)

    def save(self) -> None:
        """Begin to write a checkpoint, unless there is one or the losses say that the weights are spoilt.

        Steps go on meanwhile: `background` has written it when it is waited for. Raises what the last one raised.
        """
        if self.saved == self.step:
            return
        self.world.doing(f"saving after step {self.step}")
        self._counted(self.window.check)
        self.window.stopwatch.pause()
        with apart(self.budget, "saving", self.step):
            self._begin_to_write()

    def rescue(self) -> bool:
        """Keep the state of the last step that was done, and tell whether it is kept; others are not waited for.

        In the middle of a step there is no such state any more.
        """
        if not self.world.is_main:
            return False
        self.background.settle()
        if self.saved != self.step and not self.is_in_step:
            try:
                self._counted(self.window.check)
                self._begin_to_write()
                self.background.wait()
            except FloatingPointError:
                return False
            except (OSError, RuntimeError) as error:  # neither hides why training stopped
                self.log.say(f"the state of step {self.step} could not be kept: {error}")
                return False
        return (self.out / CHECKPOINTS / f"step-{self.step}").is_dir()

    def settle(self) -> None:
        """Wait in every process until the last checkpoint is on the disk. Raises what its writing raised."""
        self.background.wait()
        self.world.barrier()

    def _counted(self, look: Callable[[], T]) -> T:
        """Look at the window's losses, and count them.

        Raises FloatingPointError where some are not finite, with the checkpoint from before they grew.
        """
        try:
            found = look()
        except FloatingPointError as error:
            self.background.settle()
            self.course.add(self.window.totals)
            raise FloatingPointError(f"{error}; {way_back(self.course, self.out, self.log.called)}") from None
        self.course.add(self.window.totals)
        return found

    def _begin_to_write(self) -> None:
        """Copy what a checkpoint holds, when the last one is written, and leave the rest to the background."""
        keep, step = self.recipe.train.keep_checkpoints, self.step
        self.background.wait()
        was_sound = self.course.saved == 0 or not self.course.is_grown
        self.course.close(step, keep)
        if was_sound and self.course.is_grown:
            self.log.say(growth(self.course, self.out, self.log.called))
        if self.world.is_main:
            copy, state = self.memory.copy(self._tensors(), self.world.device), self._state()
            folder, besides = self.out / CHECKPOINTS, self.course.sound[-1:]
            self.background.begin(lambda: checkpoint.save(folder, step, copy.wait(), state, keep=keep, besides=besides))
        self.saved = step

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors that a checkpoint holds, a file for each group."""
        return {
            "model": self.model.state_dict(),
            "optimizer": state_tensors(self.update.optimizer, self.model),
            **({} if self.average is None else {"average": self.average.tensors()}),
        }

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors."""
        return {
            "recipe": msgspec.to_builtins(self.recipe),
            "data": self.data,
            "scaler": self.update.scaler.state_dict(),
            "versions": versions(self.world),
            **self.course.state(),
            **({} if self.budget is None else {"budget": store(self.budget)}),
        }

    def evaluate(self, epoch: int) -> None:
        """Score the weights that are kept, unless that was done before the run was stopped."""
        if self.world.any(self.world.is_main and any(row["step"] == self.step for row in evaluations(self.out))):
            return
        with apart(self.budget, "evaluation", self.step):
            self._evaluate(epoch)
        if self.budget is not None and self.step < self.plan.total_steps:
            self._look_at_the_clock(self.budget)

    def _evaluate(self, epoch: int) -> None:
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
        split = f" (processes x micro-batches x images: {shares})" if max(shares[:2]) > 1 else ""
        start = f", going on after step {self.step}" if self.step else ""
        dtype = str(self.update.precision.dtype).removeprefix("torch.")
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        steps = f"{self.plan.total_steps} steps" if self.budget is None else f"{self.recipe.train.minutes:g} minutes"
        return (
            f"{steps} of {self.recipe.train.batch} images{split}, "
            f"{self.plan.steps_per_epoch} in an epoch{start}; {self.world.device}, {dtype}, {self.update.execution}; "
            f"{trained / 1e6:.1f} million trained parameters"
        )

    def end_of(self, epoch: int) -> int:
        """The step at which an epoch ends, as far as is known by now."""
        return self.plan.steps_of(epoch)[1]

    def is_evaluation_due(self, epoch: int) -> bool:
        """Whether the weights are scored at the end of an epoch."""
        every = self.recipe.train.evaluate_every
        if not every or self.budget is not None:
            return bool(every) and self.budget is not None and self.budget.is_evaluation_due(self.step)
        return (epoch + 1) % every == 0 or epoch + 1 == self.plan.num_epochs

    def is_patience_over(self) -> bool:
        """Whether too many evaluations were no better than the best; says so."""
        patience = self.recipe.train.patience
        rows = evaluations(self.out) if self.world.is_main and patience else []
        over = self.step < self.plan.total_steps and is_stale([quality(row["evaluation"]) for row in rows], patience)
        if over:
            best = max(rows, key=lambda row: quality(row["evaluation"]))
            self.log.say(
                f"training stops early: AP {percent(quality(best['evaluation']))} of step {best['step']}, whose "
                f"weights are kept, was not exceeded in {counted(patience, 'evaluations')} (train.patience)"
            )
        return bool(patience) and self.world.any(over)

    def fit_into_time(self) -> None:
        """Where time decides, adapt the number of steps to the speed of late, now and then."""
        if self.budget is not None:
            self.budget.count(self.step)
            if self.budget.next_look <= self.step < self.plan.total_steps:
                self._look_at_the_clock(self.budget)

    def _look_at_the_clock(self, budget: Budget) -> None:
        is_first = not budget.state.pace
        budget.look(self.step, self.world)
        self.plan = self.plan._replace(total_steps=budget.state.end)
        self.log.set_total(budget.state.end)
        if is_first and budget.state.pace:
            self.log.say(f"about {budget.state.end} steps fit into {budget.settings.minutes:g} minutes")

    def _rate(self, step: int) -> float:
        train = self.recipe.train
        place = (self.budget or self.plan).place(step)
        return learning_rate(place, train.schedule, base_rate(train.optimizer, train.batch))

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
