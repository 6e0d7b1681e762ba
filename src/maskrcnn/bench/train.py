"""A training step, part by part and whole, beside torchvision's.

Everybody learns with a rate of 0: the arithmetic is the same, and after any number of steps the weights are what they
were, so that losses can be compared.
"""

import copy
from collections.abc import Callable, Mapping
from itertools import cycle

import torch
from torch import Tensor, nn

from maskrcnn.bench import peer, work
from maskrcnn.bench.agreement import losses_apart
from maskrcnn.bench.comparison import EAGER, PEER, compared, left_out, without_empty
from maskrcnn.bench.parts import BACKWARD, FORWARD, MOVE, REDUCE, eager_update
from maskrcnn.bench.results import Row, Section
from maskrcnn.bench.setup import Options, Setup, set_up
from maskrcnn.bench.timing import Cost, OnStage, Work, compare, in_turns, stages_in_turns, steady_seconds
from maskrcnn.config import Recipe
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.feeder import feed, micro_batch_maker
from maskrcnn.data.loader import Loader
from maskrcnn.data.split import open_split
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import Execution, is_recorded
from maskrcnn.structures import MicroBatch
from maskrcnn.train.optimizer import build_optimizer, set_rate
from maskrcnn.train.step import Losses, Updater

FEED, DECODE, STEP = "feeding", "decoding and feeding alone", "whole step"


def run(recipe: Recipe, options: Options) -> list[Section]:
    """The table of times, and that of losses where there are two ways to compute them."""
    setup = set_up(recipe, recipe.train, open_split(recipe.data, "train"), options)
    comparison = StepComparison(setup)
    notes = [setup.lacks_peer] if setup.lacks_peer else comparison.meet_peer()
    rows, more = _rows(setup, comparison)
    title = f"Training, {setup.recipe.name}, batch {options.batch}, {setup.facts['precision']}"
    sections = [Section(setup.key("train"), title, setup.facts, without_empty(rows), [*notes, *more])]
    if setup.execution != EAGER and {EAGER, setup.execution} <= comparison.losses.keys():
        eager, fast = comparison.losses[EAGER], comparison.losses[setup.execution]
        apart = losses_apart(eager.names, eager.mean, fast.mean, setup.execution)
        title = f"Losses of the same batch, eager and {setup.execution}"
        sections.append(Section(setup.key("losses"), title, setup.facts, apart))
    return sections


class StepComparison:
    """One batch, one set of weights, and several ways to learn from it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.make = micro_batch_maker(
            AnnotationStore(setup.data, setup.device),
            setup.device,
            setup.recipe.data,
            one_shape=setup.execution != EAGER,
        )
        self.batch: MicroBatch = self.make(setup.raw)
        self.rois = setup.recipe.model.mask_head.num_rois
        """Mask RoIs per image, for which our network has room."""
        self.losses: dict[str, Losses] = {}

    def meet_peer(self) -> list[str]:
        """Have as much room for mask RoIs as torchvision takes; says so."""
        model, losses = self._peer()
        taken = peer.masks_learnt(model, losses)
        own, self.rois = self.rois, max(1, -(-taken // self.setup.options.batch))
        return [
            f"torchvision's mask head learns from as many RoIs as are positive, {taken} of this batch; ours has room "
            f"for {self.rois} per image beside it, and for {own} in the last row, as in the recipe"
        ]

    def ours(self, execution: Execution, rois: int, name: str) -> Callable[[], Work]:
        """Makes whole steps, those of the training loop; their losses are kept under a name."""

        def make() -> Work:
            update = self._updater(execution, rois)

            def step() -> None:
                self.losses[name] = update([self.batch])

            return step

        return make

    def our_parts(self) -> Callable[[OnStage], object]:
        """A step of ours, line by line."""
        model = self._model(self.rois)
        return self._by_parts(model, lambda: model.losses(*self.batch))

    def peer_parts(self) -> Callable[[OnStage], object]:
        """A step of torchvision's, line by line."""
        return self._by_parts(*self._peer())

    def peer_step(self) -> Work:
        """A step of torchvision's, whole."""
        step = self.peer_parts()
        return lambda: step(lambda _: None)

    def _updater(self, execution: Execution, rois: int) -> Updater:
        model, precision = self._model(rois), self.setup.precision
        return Updater(
            model,
            self._optimizer(model, rate_on_device=is_recorded(execution, self.setup.device)),
            world=World(self.setup.device),
            precision=precision,
            clip_norm=self.setup.recipe.train.optimizer.clip_norm,
            rungs=(execution,),
        )

    def _model(self, rois: int) -> MaskRCNN:
        model = copy.deepcopy(self.setup.model).train()
        model.mask_head.num_rois = rois
        return model

    def _peer(self) -> tuple[nn.Module, Callable[[], Mapping[str, Tensor]]]:
        setup = self.setup
        model = peer.same_network(setup.model, setup.recipe.model, setup.recipe.data, setup.num_classes)
        peer.takes_prepared(model, setup.bucket).train()
        images = peer.image_list(self.batch.images)
        targets = peer.annotations(self.batch.images, self.batch.targets)
        return model, lambda: model(images, targets)

    def _by_parts(self, model: nn.Module, losses: Callable[[], Mapping[str, Tensor]]) -> Callable[[OnStage], object]:
        optimizer, setup = self._optimizer(model, rate_on_device=False), self.setup
        world, clip_norm = World(setup.device), setup.recipe.train.optimizer.clip_norm
        return lambda on_stage: eager_update(
            losses, model, optimizer, world=world, precision=setup.precision, clip_norm=clip_norm, on_stage=on_stage
        )

    def _optimizer(self, model: nn.Module, *, rate_on_device: bool) -> torch.optim.Optimizer:
        settings = self.setup.recipe.train.optimizer
        optimizer = build_optimizer(model, settings, rate_on_device=rate_on_device)
        set_rate(optimizer, 0.0)
        return optimizer


def _rows(setup: Setup, comparison: StepComparison) -> tuple[list[Row], list[str]]:
    """Rows of the table, and notes to it."""
    floors = _floors(setup, comparison.rois)
    rows = [*_feeding(setup, comparison), *_parts(setup, comparison, floors)]
    costs = compare(_makers(setup, comparison), setup.device, setup.options.repeats)
    batch, execution, floor = setup.options.batch, setup.execution, sum(floors.values())
    rows.append(compared(STEP, batch, costs, execution, floor))
    rois = setup.recipe.model.mask_head.num_rois
    if rois != comparison.rois:
        own = compare({execution: comparison.ours(execution, rois, "recipe")}, setup.device, setup.options.repeats)
        floor = sum(_floors(setup, rois).values())
        rows.append(compared(f"{STEP}, {rois} mask RoIs per image", batch, own, execution, floor))
    return rows, left_out(costs)


def _makers(setup: Setup, comparison: StepComparison) -> dict[str, Callable[[], Work]]:
    ways = dict.fromkeys((EAGER, setup.execution))
    makers: dict[str, Callable[[], Work]] = {way: comparison.ours(way, comparison.rois, way) for way in ways}
    return makers if setup.lacks_peer else {**makers, PEER: comparison.peer_step}


def _feeding(setup: Setup, comparison: StepComparison) -> list[Row]:
    """From decoded images to a batch on the device, and from files when nothing else runs."""
    repeats, settings = setup.options.repeats, setup.recipe.data
    once = in_turns({FEED: lambda: comparison.make(setup.raw)}, setup.device, repeats)[FEED]
    loader = Loader(setup.data, cycle(setup.steps), settings, pin_memory=setup.device.type == "cuda")
    batches = feed(loader, comparison.make, setup.device)
    ahead = settings.num_workers * settings.prefetch_size
    steady = steady_seconds(batches, setup.device, skip=ahead + 1, count=repeats)
    batches.close()
    rows = {FEED: once, f"{DECODE}, {settings.num_workers} threads": steady}
    return [_alone(setup, name, seconds) for name, seconds in rows.items()]


def _alone(setup: Setup, name: str, seconds: float) -> Row:
    return compared(name, setup.options.batch, {setup.execution: Cost(seconds, None)}, setup.execution)


def _parts(setup: Setup, comparison: StepComparison, floors: Mapping[str, float]) -> list[Row]:
    works = {EAGER: comparison.our_parts(), **({} if setup.lacks_peer else {PEER: comparison.peer_parts()})}
    spent = stages_in_turns(works, setup.device, setup.options.repeats)
    return [
        compared(
            stage,
            setup.options.batch,
            {name: Cost(seconds[stage], None) for name, seconds in spent.items()},
            setup.execution,
            floors.get(stage),
        )
        for stage in (FORWARD, BACKWARD, REDUCE, MOVE)
    ]


def _floors(setup: Setup, rois: int) -> dict[str, float]:
    """Least seconds of each part."""
    model = copy.deepcopy(setup.model).train()
    model.mask_head.num_rois = rois
    parts = work.training(model, setup.options.batch, setup.bucket, setup.precision)
    return {
        **{name: work.least_seconds(operations, setup.ceilings) for name, operations in parts.items()},
        MOVE: work.optimizer_bytes(model, setup.recipe.train.optimizer.kind) / setup.ceilings.bandwidth,
    }
