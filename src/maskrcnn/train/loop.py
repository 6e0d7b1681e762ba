"""Training from a recipe to a folder with weights, numbers and a report."""

import os
import signal
from collections.abc import Iterable
from contextlib import closing, nullcontext
from pathlib import Path

from maskrcnn.config import Recipe
from maskrcnn.data.augment.geometry import Objects
from maskrcnn.data.buckets import plan_epoch
from maskrcnn.data.feeder import feed
from maskrcnn.data.loader import Loader
from maskrcnn.data.sampling import shown
from maskrcnn.data.split import OpenSplit, open_split
from maskrcnn.files import DiskFull
from maskrcnn.recipes import write_recipe
from maskrcnn.report.page import write_report
from maskrcnn.run_folder import CONFIG, LAST, WEIGHTS
from maskrcnn.runtime import distributed
from maskrcnn.runtime.trust import trust_kernels
from maskrcnn.sentences import typed
from maskrcnn.storage.location import Where
from maskrcnn.storage.upload import uploading
from maskrcnn.train.interrupt import Stopped, StopRequest
from maskrcnn.train.log import Log
from maskrcnn.train.remote import folder_of, prepare
from maskrcnn.train.restart import goes_on, remember
from maskrcnn.train.resume import check_agreement, find_start, how_to_go_on, when_there_is_room
from maskrcnn.train.run_lock import alone
from maskrcnn.train.setup import set_up
from maskrcnn.train.training import Fetched, Training
from maskrcnn.weights import Weights, find_weights


def run(
    recipe: Recipe,
    out: Where,
    resume: str | None = None,
    weights: Weights | None = None,
    open_split: OpenSplit = open_split,
    begun: float | None = None,
) -> Path:
    """Train and evaluate as the recipe says; returns the folder of the run on disk.

    out      that folder, or the address of one in an object store, which is uploaded while the run goes on
    resume   None, `auto` (the newest checkpoint of `out`, if there is one), or folder or address of a checkpoint or
             run; what elastic torchrun starts again goes on with its own newest checkpoint
    weights  what a run that is not continued begins with; the recipe describes their network, but for its classes
    open_split   reads the splits that `recipe.data` names; another one where they are not COCO's
    begun    when the person's command began, by `time.perf_counter`, from where a given time counts; None: now
    Every process of a distributed run calls this; they share one file system, or an address. Raises KeyboardInterrupt
    after Ctrl-C or SIGTERM, with a checkpoint written; ValueError for a recipe that cannot be run or continued;
    FloatingPointError when losses are not finite; ConnectionError when not everything got to the address.
    """
    with StopRequest() as wish, distributed.start(recipe.device) as world, alone(out, active=world.is_main):
        notes: list[str] = []
        again = world.any(goes_on(folder_of(out), os.environ))
        folder, location, source = prepare(out, "auto" if again and resume is None else resume, world, notes.append)
        start = find_start(folder, source, lambda note: notes.append(note.replace(str(folder), str(location))), again)
        check_agreement(world, start)  # everybody has looked before anybody writes
        folder.mkdir(parents=True, exist_ok=True)
        if world.is_main:
            remember(folder, os.environ)
        log = Log(folder, is_main=world.is_main, tensorboard=recipe.train.tensorboard, called=location, begun=begun)
        world.on_hang(log.note)
        # The log is closed before the last upload, which so has all that it wrote.
        with uploading(folder, location, log.say, active=world.is_main), log:
            for note in notes:
                log.say(note)
            trust_kernels(world, log.say)
            try:
                training = set_up(recipe, folder, world, log, start, weights, open_split)
                del start  # its tensors lie in its files, which Windows does not remove while they are mapped
                with training.background:
                    go(training, wish)
            except KeyboardInterrupt:
                log.say(how_to_go_on(folder, location, resume))
                raise
            except Exception as error:
                if isinstance(error, DiskFull):
                    error = when_there_is_room(error, location, resume)
                log.note(f"failed: {error}")
                raise error
    return folder


def go(training: Training, wish: StopRequest) -> None:
    """All epochs, then the report. An epoch whose steps are done but which was not evaluated begins at its end.

    Whatever ends it early, outside a step, leaves a checkpoint of the last step.
    """
    log = training.log
    log.forget_after(training.step)
    if training.world.is_main:
        write_recipe(training.recipe, training.out / CONFIG)
    log.say(training.summary())
    log.show_progress(training.step, training.plan.total_steps)
    try:
        wish.deferring = True
        _all_epochs(training, wish)
        training.background.wait()
    except BaseException as error:
        if training.rescue() and not isinstance(error, KeyboardInterrupt):
            log.say(
                f"what was learnt up to step {training.step} is kept; when that is mended, "
                f"{typed('--resume')} auto {typed('--out')} {log.called} goes on"
            )
        raise
    finally:
        wish.deferring = False
    training.world.doing("writing the report")
    if training.world.is_main:
        log.end_progress()
        log.say(f"weights: {log.called / WEIGHTS / find_weights(training.out).parent.name}")
        log.say(f"report: {log.called / write_report(training.out, training.splits.validation).name}")


def _all_epochs(training: Training, wish: StopRequest) -> None:
    epoch = max(training.step - 1, 0) // training.plan.steps_per_epoch
    while epoch < training.plan.num_epochs:  # which changes on the way where time decides
        _train(training, epoch, wish)
        if training.is_evaluation_due(epoch):
            training.save()
            if training.world.size > 1:  # a launcher ends the others when one has gone
                training.settle()
            with wish.interruptible():
                training.evaluate(epoch)
            if training.is_patience_over():
                break
        epoch += 1
    if not training.recipe.train.evaluate_every:
        training.keep(LAST, {})


def _train(training: Training, epoch: int, wish: StopRequest) -> None:
    """The steps of an epoch that are still to do."""
    if training.step == training.end_of(epoch):
        return
    world, log_every = training.world, training.recipe.train.log_every
    loader = _loader(training, epoch)
    training.model.train()  # live batch norms are
    with closing(iter(loader)) as raws, closing(feed(raws, training.make, world.device)) as parts:
        while training.step < training.end_of(epoch):
            training.learn(_fetched(training, loader, parts, epoch, wish))
            training.fit_into_time()
            for note in training.oddities.notes():
                training.log.say(note)
            is_last = training.step == training.plan.total_steps
            if is_last or training.step % log_every == 0:
                training.tell(epoch)
            if is_last or _checkpoint_due(training, training.end_of(epoch)):
                training.save()
    for note in training.skips.notes():
        training.log.say(note)
    training.window.stopwatch.pause()
    _stop_together(training, epoch, wish)


def _fetched(
    training: Training, loader: Loader, parts: Iterable[Fetched], epoch: int, wish: StopRequest
) -> list[Fetched]:
    """The images of the next step. Where a process has none or is to stop, all save the same step and stop."""
    world, fetched, failure = training.world, [], None
    # With several processes the others may be in a step already, which this one is a part of.
    is_alone = world.size == 1
    try:
        with wish.interruptible() if is_alone else nullcontext():
            fetched = training.fetch(loader, parts)
    except (Stopped, OSError, ValueError) as error:
        failure = error
    raws = [raw for raw, _ in fetched]
    if world.any(wish.raised or failure is not None or any(raw.unread for raw in raws)):
        too_many = training.skips.add(raws, training.step + 1, world)
        failure = failure or (ValueError(too_many) if too_many else None)
        _stop_together(training, epoch, wish, failure)
    return fetched


def _stop_together(training: Training, epoch: int, wish: StopRequest, failure: BaseException | None = None) -> None:
    """Save and stop in all processes where one of them is to stop or has failed."""
    world = training.world
    if not world.any(wish.raised or failure is not None):
        return
    if training.window.steps:
        training.tell(epoch)
    training.save()
    training.settle()
    is_failure = world.any(failure is not None and not isinstance(failure, Stopped))
    is_term = world.any(wish.number == signal.SIGTERM)
    if failure is not None:
        raise failure
    if is_failure:
        raise ConnectionError(f"process {world.rank} of {world.size} stops with another one, which says why")
    wish.number = wish.number or (signal.SIGTERM if is_term else signal.SIGINT)
    raise Stopped(wish.number)


def _loader(training: Training, epoch: int) -> Loader:
    """The images of the steps that an epoch still has."""
    settings, data, plan = training.recipe.train, training.recipe.data, training.plan
    first, end = plan.steps_of(epoch)
    samples, objects = shown(plan.samples, plan.data, data, seed=settings.seed, epoch=epoch), Objects.of(plan.data)
    steps = plan_epoch(
        samples, data, plan.buckets, batch=settings.batch, seed=settings.seed, epoch=epoch, objects=objects
    )
    return Loader(
        plan.data,
        steps if training.budget else steps[: end - first],
        data,
        rank=training.world.rank,
        world_size=training.world.size,
        micro_batch=training.plan.shares.images,
        start=training.step - first,
        pin_memory=training.world.device.type == "cuda",
        oddities=training.oddities,
        skip=data.skip_unreadable > 0,
    )


def _checkpoint_due(training: Training, end_of_epoch: int) -> bool:
    every = training.recipe.train.checkpoint_every
    return training.step % every == 0 if every else training.step == end_of_epoch
