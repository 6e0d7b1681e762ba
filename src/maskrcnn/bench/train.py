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
from maskrcnn.bench.scene import Ask, Scene, set_up
from maskrcnn.bench.timing import Cost, OnStage, Work, compare, in_turns, stages_in_turns, steady_seconds
from maskrcnn.config import Recipe
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.feeder import feed, micro_batch_maker
from maskrcnn.data.loader import Loader
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import Execution, is_recorded
from maskrcnn.structures import MicroBatch
from maskrcnn.train.optimizer import build_optimizer, set_rate
from maskrcnn.train.plan import read_training
from maskrcnn.train.step import Losses, Updater

FEED, DECODE, STEP = "feeding", "decoding and feeding alone", "whole step"


def run(recipe: Recipe, ask: Ask) -> list[Section]:
    """The table of times, and that of losses where there are two ways to compute them."""
    scene = set_up(recipe, recipe.train, read_training(recipe.data), ask)
    contest = Contest(scene)
    notes = [scene.lacks_peer] if scene.lacks_peer else contest.meet_peer()
    rows, more = _rows(scene, contest)
    title = f"Training, {scene.recipe.name}, batch {ask.batch}, {scene.facts['precision']}"
    sections = [Section(scene.key("train"), title, scene.facts, without_empty(rows), [*notes, *more])]
    if scene.execution != EAGER and {EAGER, scene.execution} <= contest.losses.keys():
        eager, fast = contest.losses[EAGER], contest.losses[scene.execution]
        apart = losses_apart(eager.names, eager.mean, fast.mean, scene.execution)
        title = f"Losses of the same batch, eager and {scene.execution}"
        sections.append(Section(scene.key("losses"), title, scene.facts, apart))
    return sections


class Contest:
    """One batch, one set of weights, and several ways to learn from it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.make = micro_batch_maker(
            AnnotationStore(scene.data, scene.device),
            scene.device,
            scene.recipe.data,
            one_shape=scene.execution != EAGER,
        )
        self.batch: MicroBatch = self.make(scene.raw)
        self.rois = scene.recipe.model.mask_head.num_rois
        """Mask RoIs per image, for which our network has room."""
        self.losses: dict[str, Losses] = {}

    def meet_peer(self) -> list[str]:
        """Have as much room for mask RoIs as torchvision takes; says so."""
        model, losses = self._peer()
        taken = peer.masks_learnt(model, losses)
        own, self.rois = self.rois, max(1, -(-taken // self.scene.ask.batch))
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
        """A step line by line."""
        model = self._model(self.rois)
        return self._by_parts(model, lambda: model.losses(*self.batch))

    def peer_parts(self) -> Callable[[OnStage], object]:
        """torchvision's."""
        return self._by_parts(*self._peer())

    def peer_step(self) -> Work:
        """torchvision's, whole."""
        step = self.peer_parts()
        return lambda: step(lambda _: None)

    def _updater(self, execution: Execution, rois: int) -> Updater:
        model, precision = self._model(rois), self.scene.precision
        return Updater(
            model,
            self._optimizer(model, rate_on_device=is_recorded(execution, self.scene.device)),
            world=World(self.scene.device),
            precision=precision,
            clip_norm=self.scene.recipe.train.optimizer.clip_norm,
            rungs=(execution,),
        )

    def _model(self, rois: int) -> MaskRCNN:
        model = copy.deepcopy(self.scene.model).train()
        model.mask_head.num_rois = rois
        return model

    def _peer(self) -> tuple[nn.Module, Callable[[], Mapping[str, Tensor]]]:
        scene = self.scene
        model = peer.same_network(scene.model, scene.recipe.model, scene.recipe.data, scene.num_classes)
        peer.takes_prepared(model, scene.bucket).train()
        images = peer.pictures(self.batch.images)
        targets = peer.annotations(self.batch.images, self.batch.targets)
        return model, lambda: model(images, targets)

    def _by_parts(self, model: nn.Module, losses: Callable[[], Mapping[str, Tensor]]) -> Callable[[OnStage], object]:
        optimizer, scene = self._optimizer(model, rate_on_device=False), self.scene
        world, clip_norm = World(scene.device), scene.recipe.train.optimizer.clip_norm
        return lambda on_stage: eager_update(
            losses, model, optimizer, world=world, precision=scene.precision, clip_norm=clip_norm, on_stage=on_stage
        )

    def _optimizer(self, model: nn.Module, *, rate_on_device: bool) -> torch.optim.Optimizer:
        settings = self.scene.recipe.train.optimizer
        optimizer = build_optimizer(model, settings, rate_on_device=rate_on_device)
        set_rate(optimizer, 0.0)
        return optimizer


def _rows(scene: Scene, contest: Contest) -> tuple[list[Row], list[str]]:
    """Of the table, and notes to it."""
    floors = _floors(scene, contest.rois)
    rows = [*_feeding(scene, contest), *_parts(scene, contest, floors)]
    costs = compare(_makers(scene, contest), scene.device, scene.ask.repeats)
    batch, execution, floor = scene.ask.batch, scene.execution, sum(floors.values())
    rows.append(compared(STEP, batch, costs, execution, floor))
    rois = scene.recipe.model.mask_head.num_rois
    if rois != contest.rois:
        own = compare({execution: contest.ours(execution, rois, "recipe")}, scene.device, scene.ask.repeats)
        floor = sum(_floors(scene, rois).values())
        rows.append(compared(f"{STEP}, {rois} mask RoIs per image", batch, own, execution, floor))
    return rows, left_out(costs)


def _makers(scene: Scene, contest: Contest) -> dict[str, Callable[[], Work]]:
    ways = dict.fromkeys((EAGER, scene.execution))
    makers: dict[str, Callable[[], Work]] = {way: contest.ours(way, contest.rois, way) for way in ways}
    return makers if scene.lacks_peer else {**makers, PEER: contest.peer_step}


def _feeding(scene: Scene, contest: Contest) -> list[Row]:
    """From decoded pictures to a batch on the device, and from files when nothing else runs."""
    repeats, settings = scene.ask.repeats, scene.recipe.data
    once = in_turns({FEED: lambda: contest.make(scene.raw)}, scene.device, repeats)[FEED]
    loader = Loader(scene.data, cycle(scene.steps), settings, pin_memory=scene.device.type == "cuda")
    batches = feed(loader, contest.make, scene.device)
    ahead = settings.num_workers * settings.prefetch_size
    steady = steady_seconds(batches, scene.device, skip=ahead + 1, count=repeats)
    batches.close()
    rows = {FEED: once, f"{DECODE}, {settings.num_workers} threads": steady}
    return [_alone(scene, name, seconds) for name, seconds in rows.items()]


def _alone(scene: Scene, name: str, seconds: float) -> Row:
    return compared(name, scene.ask.batch, {scene.execution: Cost(seconds, None)}, scene.execution)


def _parts(scene: Scene, contest: Contest, floors: Mapping[str, float]) -> list[Row]:
    works = {EAGER: contest.our_parts(), **({} if scene.lacks_peer else {PEER: contest.peer_parts()})}
    spent = stages_in_turns(works, scene.device, scene.ask.repeats)
    return [
        compared(
            stage,
            scene.ask.batch,
            {name: Cost(seconds[stage], None) for name, seconds in spent.items()},
            scene.execution,
            floors.get(stage),
        )
        for stage in (FORWARD, BACKWARD, REDUCE, MOVE)
    ]


def _floors(scene: Scene, rois: int) -> dict[str, float]:
    """Least seconds of each part."""
    model = copy.deepcopy(scene.model).train()
    model.mask_head.num_rois = rois
    parts = work.training(model, scene.ask.batch, scene.bucket, scene.precision)
    return {
        **{name: work.least_seconds(operations, scene.ceilings) for name, operations in parts.items()},
        MOVE: work.optimizer_bytes(model, scene.recipe.train.optimizer.kind) / scene.ceilings.bandwidth,
    }
