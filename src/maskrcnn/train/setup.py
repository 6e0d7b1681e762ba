"""What a run is made of, in the order in which one needs the other."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from msgspec import structs

from maskrcnn import config
from maskrcnn.config import Recipe
from maskrcnn.convert.backbone import load_backbone
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.division import write_split_file
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.identity import identity
from maskrcnn.data.split import OpenSplit, has_validation, open_split
from maskrcnn.files import atomic_write
from maskrcnn.models.mask_rcnn import MaskRCNN, build
from maskrcnn.recipes.write import with_split
from maskrcnn.run_folder import PLAN, SPLIT
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import Execution, choose_algorithms, is_recorded
from maskrcnn.runtime.ladder import choose_rungs
from maskrcnn.runtime.memory import keep_freed_memory
from maskrcnn.runtime.precision import choose_precision
from maskrcnn.runtime.warm import tasks_for, warm_together
from maskrcnn.sentences import typed
from maskrcnn.storage.location import Location
from maskrcnn.train.background import Background
from maskrcnn.train.budget import Budget, Length, begin, go_on
from maskrcnn.train.checkpoint import Checkpoint
from maskrcnn.train.divergence import Course
from maskrcnn.train.initialise import initialise_from
from maskrcnn.train.log import Log
from maskrcnn.train.optimizer import Average, build_optimizer, load_state_tensors
from maskrcnn.train.pixels import with_measured
from maskrcnn.train.plan import Plan, Splits, plan_steps, read_splits, share_out, with_classes
from maskrcnn.train.resume import check_same
from maskrcnn.train.step import Updater
from maskrcnn.train.training import Training, new_window
from maskrcnn.weights import Weights

Say = Callable[[str], None]


def set_up(
    recipe: Recipe,
    out: Path,
    world: World,
    log: Log,
    start: Checkpoint | None = None,
    weights: Weights | None = None,
    open_split: OpenSplit = open_split,
) -> Training:
    """A run at its first step, or at the one after a checkpoint; whatever cannot be run is refused here.

    start     the checkpoint to go on from
    weights   what a run that begins has; one that goes on takes the checkpoint's
    open_split   as of `loop.run`
    Raises ValueError.
    """
    shares = share_out(recipe.train, world.size)
    if start is not None:
        recipe = with_split_file(recipe, out, log.called)
    splits = read_splits(recipe, log.say, open_split)
    recipe = with_classes(recipe, splits.training)
    if splits.are_one and not has_validation(recipe.data):
        recipe = _keep_split(recipe, splits, out, world, log)
    recipe = with_measured(recipe, splits.training, log.say, start and start.state["recipe"]["data"])
    data = identity(splits.training)
    if start is not None:
        check_same(recipe, start, data)
    plan = plan_steps(recipe, splits.training, shares)
    budget = _budget(recipe.train, plan, splits, log, start)
    if budget is not None:
        plan = plan._replace(total_steps=budget.state.end)
    model = _network(recipe, world, start, weights, log.say)
    rungs = choose_rungs(recipe.train.execution, world.device, "train.execution")
    update = _updater(recipe, model, world, rungs, start, log.say)
    annotations = AnnotationStore(plan.data, world.device)
    return Training(
        recipe=recipe,
        out=out,
        world=world,
        log=log,
        splits=splits,
        plan=plan,
        model=model,
        update=update,
        make=micro_batch_maker(annotations, world.device, recipe.data, one_shape=rungs[0] != "eager"),
        average=_average(recipe, model, start),
        step=0 if start is None else start.step,
        window=new_window(update),
        data=data,
        background=Background(log.say),
        course=Course() if start is None else Course.of(start.step, start.state),
        saved=start.step if start is not None and start.path.resolve().is_relative_to(out.resolve()) else 0,
        budget=budget,
    )


def _budget(settings: config.Train, plan: Plan, splits: Splits, log: Log, start: Checkpoint | None) -> Budget | None:
    """The time that the run fits into, if one was given."""
    if not settings.minutes:
        return None
    num_evaluated = 0 if splits.validation is None else len(splits.validation.image_ids)
    length = Length(plan.steps_per_epoch, num_evaluated)
    if start is not None and "budget" in start.state:
        return go_on(settings, length, log.seconds, start.step, start.state["budget"])
    return begin(settings, length, log.seconds, 0 if start is None else start.step, plan.total_steps)


def with_split_file(recipe: Recipe, out: Path, called: Path | Location) -> Recipe:
    """The recipe with the split that this run wrote when it began, if it did.

    out, called   the run's folder on disk, and what the person called it
    """
    if recipe.data.split_file or not (out / SPLIT).is_file():
        return recipe
    return structs.replace(recipe, data=structs.replace(recipe.data, split_file=str(called / SPLIT)))


def _keep_split(recipe: Recipe, splits: Splits, out: Path, world: World, log: Log) -> Recipe:
    """Write down which images were set apart, so that the run's evaluations, later ones too, are on the same."""
    assert splits.validation is not None
    if world.is_main:
        data = recipe.data
        write_split_file(out / SPLIT, splits.training, splits.validation, data.val_share, data.split_seed)
        if (out / PLAN).is_file():
            plan = (out / PLAN).read_text(encoding="utf-8")
            with atomic_write(out / PLAN) as draft:
                draft.write_text(with_split(plan, SPLIT), encoding="utf-8")
    world.barrier()
    return with_split_file(recipe, out, log.called)


def _network(recipe: Recipe, world: World, start: Checkpoint | None, weights: Weights | None, say: Say) -> MaskRCNN:
    """The network on its device, with the same weights in every process."""
    torch.manual_seed(recipe.train.seed)
    model = build(recipe.model, len(recipe.classes), len(recipe.data.mean))
    model.backbone.recompute = recipe.train.recompute
    if start is not None:
        if weights is not None:
            say(f"resuming at step {start.step}; {typed('--weights')} only names the network")
        model.load_state_dict(start.tensors["model"])
    elif world.is_main:
        if weights is None:
            load_backbone(model.backbone, recipe.model.backbone, say)
        else:
            say(initialise_from(model, weights, recipe.classes))
    model.to(world.device)
    world.broadcast(model)
    return model


def _updater(
    recipe: Recipe, model: MaskRCNN, world: World, rungs: Sequence[Execution], start: Checkpoint | None, say: Say
) -> Updater:
    """What moves the weights, with all that an optimizer remembers."""
    settings, device = recipe.train, world.device
    choose_algorithms(device, deterministic=settings.deterministic)
    keep_freed_memory(device)
    precision = choose_precision(device, settings.mixed_precision)
    warm_together(tasks_for(model, precision.dtype, learn=True), world, say)
    optimizer = build_optimizer(model, settings.optimizer, rate_on_device=is_recorded(rungs[0], device))
    update = Updater(
        model,
        optimizer,
        world=world,
        precision=precision,
        clip_norm=settings.optimizer.clip_norm,
        rungs=rungs,
        say=say,
        batch=settings.batch,
    )
    if start is not None:
        load_state_tensors(optimizer, model, start.tensors["optimizer"])
        if start.state["scaler"] and update.scaler.is_enabled():
            update.scaler.load_state_dict(start.state["scaler"])
    return update


def _average(recipe: Recipe, model: MaskRCNN, start: Checkpoint | None) -> Average | None:
    """Made when the model has all its weights: those that are not trained are copied here and never again."""
    if not recipe.train.ema:
        return None
    average = Average(model, recipe.train.ema, recipe.train.ema_warmup)
    if start is not None:
        average.load(start.tensors["average"])
    return average
