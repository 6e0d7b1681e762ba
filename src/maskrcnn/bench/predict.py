"""A prediction, stage by stage and whole, beside torchvision's. From prepared pixels to masks inside boxes."""

from collections.abc import Callable
from typing import Any

import torch

from maskrcnn.bench import peer, work
from maskrcnn.bench.agreement import detections_apart
from maskrcnn.bench.comparison import EAGER, PEER, compared, left_out, without_empty
from maskrcnn.bench.parts import stages
from maskrcnn.bench.results import Row, Section
from maskrcnn.bench.scene import Ask, Scene, set_up
from maskrcnn.bench.timing import Cost, Work, compare, in_turns
from maskrcnn.config import Recipe
from maskrcnn.data.split import open_split
from maskrcnn.data.transforms import prepare
from maskrcnn.models.layers import folded
from maskrcnn.runtime.execution import Execution, executed, to_host
from maskrcnn.structures import ImageBatch


def run(recipe: Recipe, ask: Ask, *, batches: tuple[int, ...] = (1,), by_stage: bool = True) -> list[Section]:
    """The table of times, and that of detections where there are two ways to compute them.

    batches    whole predictions of these sizes too
    by_stage   each stage of `ask.batch` too
    """
    scene = set_up(recipe, recipe.evaluate, open_split(recipe.data, "val"), ask)
    contest = Contest(scene)
    rows, found, notes = [], [], [scene.lacks_peer] if scene.lacks_peer else []
    if by_stage:
        rows += contest.by_stage()
    for batch in sorted({ask.batch, *batches}, reverse=True):
        row, apart, more = contest.whole(batch)
        rows.append(row)
        found.append(apart)
        notes += more
    title = f"Prediction, {recipe.name}, batch {ask.batch}, {scene.facts['precision']}"
    heading = "Detections of the same batch" + ("" if scene.execution == EAGER else f", eager and {scene.execution}")
    return [
        Section(scene.key("predict"), title, scene.facts, without_empty(rows), notes),
        Section(scene.key("detections"), heading, scene.facts, without_empty(found)),
    ]


class Contest:
    """One set of weights, and several ways to predict with it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.images: ImageBatch = prepare(scene.raw, scene.device, scene.recipe.data)
        self.model = folded(scene.model, scene.precision.dtype).eval()
        self.found: dict[str, Any] = {}
        """What each way last found."""

    def by_stage(self) -> list[Row]:
        """Each stage of the whole batch."""
        scene = self.scene
        with torch.inference_mode(), scene.precision.autocast():
            ours = stages(self.model, self.images)
            theirs = {} if scene.lacks_peer else peer.peer_stages(self._peer(), peer.pictures(self.images))
        floors = self._floors(scene.ask.batch)
        rows = []
        for name, stage in ours.items():
            works: dict[str, Work] = {EAGER: stage, scene.execution: executed(stage, scene.execution, scene.device)}
            works |= {PEER: theirs[name]} if theirs else {}
            spent = in_turns({way: self._guarded(w) for way, w in works.items()}, scene.device, scene.ask.repeats)
            costs = {way: Cost(seconds, None) for way, seconds in spent.items()}
            rows.append(compared(name, scene.ask.batch, costs, scene.execution, floors[name]))
        return rows

    def whole(self, batch: int) -> tuple[Row, Row, list[str]]:
        """A batch's times, how far its detections lie apart, and notes."""
        scene = self.scene
        images = self._some(batch)
        makers: dict[str, Callable[[], Work]] = {EAGER: lambda: self.ours(EAGER, images)}
        if scene.execution != EAGER:
            makers[scene.execution] = lambda: self.ours(scene.execution, images)
        if not scene.lacks_peer:
            makers[PEER] = lambda: self._theirs(images)
        costs = compare(makers, scene.device, scene.ask.repeats)
        floor = sum(self._floors(batch).values())
        row = compared(f"whole, batch {batch}", batch, costs, scene.execution, floor)
        return row, {"batch": str(batch), **self._apart()}, left_out(costs)

    def ours(self, execution: Execution, images: ImageBatch) -> Work:
        """Whole predictions of some images."""
        forward = executed(self.model, execution, self.scene.device)

        def work() -> None:
            self.found[execution] = forward(images)

        return self._guarded(work)

    def _theirs(self, images: ImageBatch) -> Work:
        model, pictures = self._peer(), peer.pictures(images)

        def work() -> None:
            self.found[PEER] = model(pictures)

        return self._guarded(work)

    def _peer(self) -> torch.nn.Module:
        scene = self.scene
        model = peer.same_network(scene.model, scene.recipe.model, scene.recipe.data, scene.num_classes)
        return peer.takes_prepared(model, scene.bucket).eval()

    def _guarded(self, work: Work) -> Work:
        def call() -> None:
            with torch.inference_mode(), self.scene.precision.autocast():
                work()

        return call

    def _some(self, batch: int) -> ImageBatch:
        """As many images, repeated where the first batch has fewer."""
        index = torch.arange(batch, device=self.scene.device) % self.scene.ask.batch
        pixels = self.images.pixels[index].contiguous(memory_format=torch.channels_last)
        return ImageBatch(pixels, self.images.sizes[index])

    def _floors(self, batch: int) -> dict[str, float]:
        parts = work.prediction(self.scene.model, batch, self.scene.bucket, self.scene.precision)
        return {name: work.least_seconds(operations, self.scene.ceilings) for name, operations in parts.items()}

    def _apart(self) -> Row:
        """Our two ways, and how much torchvision found."""
        found, execution = self.found, self.scene.execution
        self.found = {}
        ours = {way: to_host(one, self.scene.device).wait() for way, one in found.items() if way != PEER}
        row: Row = {way: int(one.valid.sum()) for way, one in ours.items()}
        if len(ours) == 2:
            row = detections_apart(ours[EAGER], ours[execution], execution)
        return {**row, PEER: sum(len(image["scores"]) for image in found[PEER]) if PEER in found else None}
