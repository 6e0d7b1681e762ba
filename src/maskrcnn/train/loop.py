"""Training from a recipe to a folder with weights, numbers and a report."""

import math
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import torch

from maskrcnn.config import Recipe
from maskrcnn.convert.backbone import load_backbone
from maskrcnn.data import coco
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.buckets import buckets_for, plan_epoch
from maskrcnn.data.feeder import feed, micro_batch_maker
from maskrcnn.data.loader import Loader
from maskrcnn.data.transforms import RawBatch
from maskrcnn.evaluate.run import IN_DETAILS, evaluate, versions
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes import write_recipe
from maskrcnn.report.page import write_report
from maskrcnn.runtime import distributed
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import choose_algorithms, is_recorded
from maskrcnn.runtime.ladder import choose_rungs
from maskrcnn.runtime.memory import explain_out_of_memory, keep_freed_memory, peak_memory
from maskrcnn.runtime.precision import choose_precision
from maskrcnn.runtime.trust import trust_kernels
from maskrcnn.runtime.warm import tasks_for, warm_together
from maskrcnn.structures import MicroBatch
from maskrcnn.train import checkpoint
from maskrcnn.train.checkpoint import Checkpoint
from maskrcnn.train.initialise import initialise_from
from maskrcnn.train.interrupt import StopRequest
from maskrcnn.train.log import Log, evaluations, quality
from maskrcnn.train.optimizer import Average, build_optimizer, load_state_tensors, set_rate, state_tensors
from maskrcnn.train.plan import micro_batch_size, num_steps, read_training, read_validation, with_classes
from maskrcnn.train.resume import CHECKPOINTS, check_same, find_start
from maskrcnn.train.schedule import base_rate, learning_rate
from maskrcnn.train.step import Updater
from maskrcnn.train.stopwatch import stopwatch_for
from maskrcnn.train.window import Step, Window
from maskrcnn.weights import Weights, find_weights, save_weights


def run(recipe: Recipe, out: Path, resume: str | None = None, weights: Weights | None = None) -> Path:
    """Train and evaluate as the recipe says; returns `out`, the folder of the run.

    resume   None, `auto` (the newest checkpoint of `out`, if there is one), or a checkpoint's or run's folder
    weights  what a run that is not continued begins with; the recipe describes their network, but for its classes
    Every process of a distributed run calls this; they share one file system. Raises KeyboardInterrupt after
    Ctrl-C or SIGTERM, with a checkpoint written; ValueError for a recipe that cannot be run or continued;
    FloatingPointError when losses are not finite.
    """
    out = Path(out)
    with StopRequest() as wish, distributed.start(recipe.device) as world:
        notes: list[str] = []
        start = find_start(out, resume, notes.append)
        world.barrier()  # everybody has looked before anybody writes
        out.mkdir(parents=True, exist_ok=True)
        with Log(out, is_main=world.is_main, tensorboard=recipe.train.tensorboard) as log:
            for note in notes:
                log.say(note)
            trust_kernels(world, log.say)
            try:
                Training(recipe, out, world, log, wish, start, weights).go()
            except KeyboardInterrupt:
                log.say(f"stopped; go on with --resume auto --out {out}")
                raise
            except Exception as error:
                log.note(f"failed: {error}")
                raise
    return out


class Training:
    """Everything that a run holds, from the first step (or the one after a checkpoint) to the report."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        world: World,
        log: Log,
        wish: StopRequest,
        start: Checkpoint | None,
        weights: Weights | None = None,
    ) -> None:
        self.out, self.world, self.log, self.wish = out, world, log, wish
        self.micro_batch = micro_batch_size(recipe.train, world.size)
        self.num_parts = recipe.train.batch // world.size // self.micro_batch
        self.data = read_training(recipe.data)
        log.say(coco.summary(self.data))
        self.validation = read_validation(recipe.data, self.data) if recipe.train.evaluate_every else None
        if self.validation is not None:
            log.say(coco.summary(self.validation))
        self.recipe = recipe = with_classes(recipe, self.data)
        settings = recipe.train
        self.buckets = buckets_for(self.data.sizes, recipe.data, recipe.data.short_sides)
        self.steps_per_epoch, self.total_steps = num_steps(settings, len(self.data.image_ids))

        torch.manual_seed(settings.seed)
        self.model = build(recipe.model, len(recipe.classes), len(recipe.data.mean))
        if start is not None and weights is not None:
            log.say(f"goes on from step {start.step}; {weights.origin} only tells which network that is")
        if start is None and world.is_main:
            if weights is None:
                load_backbone(self.model.backbone, recipe.model.backbone, log.say)
            else:
                log.say(initialise_from(self.model, weights, recipe.classes))
        self.model.to(world.device)
        self.model.backbone.recompute = settings.recompute
        world.broadcast(self.model)
        rungs = choose_rungs(settings.execution, world.device, "train.execution")
        choose_algorithms(world.device, deterministic=settings.deterministic)
        keep_freed_memory(world.device)
        self.precision = choose_precision(world.device, settings.mixed_precision)
        warm_together(tasks_for(self.model, self.precision.dtype, learn=True), world, log.say)
        self.optimizer = build_optimizer(
            self.model, settings.optimizer, rate_on_device=is_recorded(rungs[0], world.device)
        )
        self.update = Updater(
            self.model,
            self.optimizer,
            world=world,
            precision=self.precision,
            clip_norm=settings.optimizer.clip_norm,
            rungs=rungs,
            say=log.say,
        )
        self.make = micro_batch_maker(
            AnnotationStore(self.data, world.device), world.device, recipe.data, one_shape=rungs[0] != "eager"
        )
        self.window = self._new_window()
        self.step = 0
        if start is not None:
            self._load(start)
        self.average = self._new_average(start)
        log.forget_after(self.step)
        if world.is_main:
            write_recipe(recipe, out / "config.yml")

    def go(self) -> None:
        """All epochs, then the report. An epoch whose steps are done but which was not evaluated begins at its end."""
        self.log.say(self._plan())
        self.log.show_progress(self.step, self.total_steps)
        last = math.ceil(self.total_steps / self.steps_per_epoch) - 1
        for epoch in range(max(self.step - 1, 0) // self.steps_per_epoch, last + 1):
            self._train(epoch)
            every = self.recipe.train.evaluate_every
            if every and ((epoch + 1) % every == 0 or epoch == last):
                self._evaluate(epoch)
        if not self.recipe.train.evaluate_every:
            self._keep("last", {})
        if self.world.is_main:
            self.log.end_progress()
            self.log.say(f"weights: {find_weights(self.out).parent}")
            self.log.say(f"report: {write_report(self.out)}")

    def _train(self, epoch: int) -> None:
        """The steps of an epoch that are still to do."""
        settings, data, world = self.recipe.train, self.recipe.data, self.world
        first, end = epoch * self.steps_per_epoch, min((epoch + 1) * self.steps_per_epoch, self.total_steps)
        if self.step == end:
            return
        plan = plan_epoch(self.data.sizes, data, self.buckets, batch=settings.batch, seed=settings.seed, epoch=epoch)
        loader = Loader(
            self.data,
            plan[: end - first],
            data,
            rank=world.rank,
            world_size=world.size,
            micro_batch=self.micro_batch,
            start=self.step - first,
            pin_memory=world.device.type == "cuda",
        )
        self.model.train()  # live batch norms are
        self.wish.deferring = True
        with closing(iter(loader)) as pictures, closing(feed(pictures, self.make, world.device)) as parts:
            while self.step < end:
                self.window.steps.append(self._step(loader, parts))
                stop = world.any(self.wish.raised)
                is_last = stop or self.step == self.total_steps
                if is_last or self.step % settings.log_every == 0:
                    self._tell(epoch)
                if is_last or self._checkpoint_due(end):
                    self._save()
                if stop:
                    raise KeyboardInterrupt
        self.wish.deferring = False
        self.window.stopwatch.pause()
        if world.any(self.wish.raised):  # while the last checkpoint was written
            raise KeyboardInterrupt

    def _step(self, loader: Loader, parts: Iterable[tuple[RawBatch, MicroBatch]]) -> Step:
        """One update of the weights and of their average."""
        watch, waited = self.window.stopwatch, loader.waited_seconds
        watch.fetch()
        raws, batches = zip(*islice(parts, self.num_parts), strict=True)
        watch.begin(loader.waited_seconds - waited)
        set_rate(self.optimizer, self._rate(self.step))
        with explain_out_of_memory(self.world.device, self.micro_batch, raws[0].bucket, self._less_memory()):
            losses = self.update(batches)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        watch.end()
        self.log.advance()
        return Step(self.step, losses, [raw.image_ids.tolist() for raw in raws])

    def _less_memory(self) -> str:
        """What a person can do whose device is too small for this recipe."""
        settings, smaller = self.recipe.train, max(1, self.micro_batch // 2)
        remedies = {
            f"train.micro_batch={smaller} (the same batch, in more parts)": self.micro_batch > 1,
            "train.mixed_precision=true": not settings.mixed_precision,
            "train.recompute=true": not settings.recompute,
            f"a smaller data.short_sides than {max(self.recipe.data.short_sides)}": True,
            f"a smaller model.mask_head.num_rois than {self.recipe.model.mask_head.num_rois}": True,
        }
        return "what helps: " + ", ".join(remedy for remedy, is_new in remedies.items() if is_new)

    def _evaluate(self, epoch: int) -> None:
        """Score the weights that are kept, unless that was done before the run was stopped."""
        if self.world.any(self.world.is_main and any(row["step"] == self.step for row in evaluations(self.out))):
            return
        assert self.validation is not None, "read whenever there are evaluations"
        out, ticker = self.out / "evaluation", self.log.ticker()
        metrics = evaluate(self._kept_model(), self.validation, self.recipe, self.world, out, ticker, say=self.log.say)
        if self.world.is_main:
            before = [quality(row["evaluation"]) for row in evaluations(self.out)]
            short = {name: value for name, value in metrics.items() if name not in IN_DETAILS}
            if quality(metrics) >= max(before, default=0.0):
                self._keep("best", short)
            self._keep("last", short)
            self.log.evaluation(metrics, step=self.step, epoch=epoch + 1)  # last: it says that all of this is done

    def _keep(self, name: str, metrics: dict[str, Any]) -> None:
        if self.world.is_main:
            save_weights(self.out / "weights" / name, self._kept_model(), self.recipe, metrics)

    def _kept_model(self) -> torch.nn.Module:
        return self.model if self.average is None else self.average.model

    def _rate(self, step: int) -> float:
        train = self.recipe.train
        return learning_rate(
            step,
            train.schedule,
            base=base_rate(train.optimizer, train.batch),
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
        )

    def _tell(self, epoch: int) -> None:
        self.log.steps(
            self.window.read(),
            step=self.step,
            total_steps=self.total_steps,
            epoch=epoch + 1,
            lr=self._rate(self.step - 1),
            images=self.recipe.train.batch,
            memory=peak_memory(self.world.device),
        )
        self.window = self._new_window()

    def _new_window(self) -> Window:
        return Window(stopwatch_for(self.world.device), overflow_allowed=self.update.scaler.is_enabled())

    def _checkpoint_due(self, end_of_epoch: int) -> bool:
        every = self.recipe.train.checkpoint_every
        return self.step % every == 0 if every else self.step == end_of_epoch

    def _save(self) -> None:
        """Write a checkpoint, unless the losses say that the weights are spoilt."""
        if self.window.steps:
            self.window.check()
        self.window.stopwatch.pause()
        if self.world.is_main:
            average = {} if self.average is None else {"average": self.average.tensors()}
            checkpoint.save(
                self.out / CHECKPOINTS,
                self.step,
                {
                    "model": self.model.state_dict(),
                    "optimizer": state_tensors(self.optimizer, self.model),
                    **average,
                },
                {
                    "recipe": msgspec.to_builtins(self.recipe),
                    "num_images": len(self.data.image_ids),
                    "scaler": self.update.scaler.state_dict(),
                    "versions": versions(self.world),
                },
                keep=self.recipe.train.keep_checkpoints,
            )
        self.world.barrier()

    def _new_average(self, start: Checkpoint | None) -> Average | None:
        """Made when the model has all its weights: those that are not trained are copied here and never again."""
        if not self.recipe.train.ema:
            return None
        average = Average(self.model, self.recipe.train.ema)
        if start is not None:
            average.load(start.tensors["average"])
        return average

    def _load(self, start: Checkpoint) -> None:
        check_same(self.recipe, start, len(self.data.image_ids))
        self.step = start.step
        self.model.load_state_dict(start.tensors["model"])
        load_state_tensors(self.optimizer, self.model, start.tensors["optimizer"])
        if start.state["scaler"] and self.update.scaler.is_enabled():
            self.update.scaler.load_state_dict(start.state["scaler"])

    def _plan(self) -> str:
        shares = (self.world.size, self.num_parts, self.micro_batch)
        split = f" (processes x micro-batches x images: {' x '.join(map(str, shares))})" if max(shares[:2]) > 1 else ""
        start = f", going on after step {self.step}" if self.step else ""
        dtype = str(self.precision.dtype).removeprefix("torch.")
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        return (
            f"{self.total_steps} steps of {self.recipe.train.batch} images{split}, {self.steps_per_epoch} in an epoch"
            f"{start}; {self.world.device}, {dtype}, {self.update.execution}; "
            f"{trained / 1e6:.1f} million trained parameters"
        )
