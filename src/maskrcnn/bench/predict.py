"""A prediction, stage by stage and whole, beside torchvision's. From prepared pixels to masks inside boxes."""

from collections.abc import Callable
from typing import Any

import torch

from maskrcnn.bench import peer, work
from maskrcnn.bench.agreement import detections_apart
from maskrcnn.bench.comparison import EAGER, PEER, compared, left_out, without_empty
from maskrcnn.bench.parts import stages
from maskrcnn.bench.results import Row, Section
from maskrcnn.bench.setup import Options, Setup, set_up
from maskrcnn.bench.timing import Cost, Work, compare, in_turns
from maskrcnn.config import Recipe
from maskrcnn.data.split import open_split
from maskrcnn.data.transforms import prepare
from maskrcnn.models.layers import folded
from maskrcnn.runtime.execution import Execution, executed, to_host
from maskrcnn.structures import ImageBatch


def run(recipe: Recipe, options: Options, *, batches: tuple[int, ...] = (1,), by_stage: bool = True) -> list[Section]:
    """The table of times, and that of detections where there are two ways to compute them.

    batches    whole predictions of these sizes too
    by_stage   each stage of `options.batch` too
    """
    setup = set_up(recipe, recipe.evaluate, open_split(recipe.data, "val"), options)
    comparison = PredictionComparison(setup)
    rows, found, notes = [], [], [setup.lacks_peer] if setup.lacks_peer else []
    if by_stage:
        rows += comparison.by_stage()
    for batch in sorted({options.batch, *batches}, reverse=True):
        row, apart, more = comparison.whole(batch)
        rows.append(row)
        found.append(apart)
        notes += more
    title = f"Prediction, {recipe.name}, batch {options.batch}, {setup.facts['precision']}"
    heading = "Detections of the same batch" + ("" if setup.execution == EAGER else f", eager and {setup.execution}")
    return [
        Section(setup.key("predict"), title, setup.facts, without_empty(rows), notes),
        Section(setup.key("detections"), heading, setup.facts, without_empty(found)),
    ]


class PredictionComparison:
    """One set of weights, and several ways to predict with it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.images: ImageBatch = prepare(setup.raw, setup.device, setup.recipe.data)
        self.model = folded(setup.model, setup.precision.dtype).eval()
        self.found: dict[str, Any] = {}
        """What each way last found."""

    def by_stage(self) -> list[Row]:
        """Each stage of the whole batch."""
        setup = self.setup
        with torch.inference_mode(), setup.precision.autocast():
            ours = stages(self.model, self.images)
            theirs = {} if setup.lacks_peer else peer.peer_stages(self._peer(), peer.image_list(self.images))
        floors = self._floors(setup.options.batch)
        rows = []
        for name, stage in ours.items():
            works: dict[str, Work] = {EAGER: stage, setup.execution: executed(stage, setup.execution, setup.device)}
            works |= {PEER: theirs[name]} if theirs else {}
            spent = in_turns({way: self._guarded(w) for way, w in works.items()}, setup.device, setup.options.repeats)
            costs = {way: Cost(seconds, None) for way, seconds in spent.items()}
            rows.append(compared(name, setup.options.batch, costs, setup.execution, floors[name]))
        return rows

    def whole(self, batch: int) -> tuple[Row, Row, list[str]]:
        """A batch's times, how far its detections lie apart, and notes."""
        setup = self.setup
        images = self._some(batch)
        makers: dict[str, Callable[[], Work]] = {EAGER: lambda: self.ours(EAGER, images)}
        if setup.execution != EAGER:
            makers[setup.execution] = lambda: self.ours(setup.execution, images)
        if not setup.lacks_peer:
            makers[PEER] = lambda: self._theirs(images)
        costs = compare(makers, setup.device, setup.options.repeats)
        floor = sum(self._floors(batch).values())
        row = compared(f"whole, batch {batch}", batch, costs, setup.execution, floor)
        return row, {"batch": str(batch), **self._apart()}, left_out(costs)

    def ours(self, execution: Execution, images: ImageBatch) -> Work:
        """Whole predictions of some images."""
        forward = executed(self.model, execution, self.setup.device)

        def work() -> None:
            self.found[execution] = forward(images)

        return self._guarded(work)

    def _theirs(self, images: ImageBatch) -> Work:
        model, listed = self._peer(), peer.image_list(images)

        def work() -> None:
            self.found[PEER] = model(listed)

        return self._guarded(work)

    def _peer(self) -> torch.nn.Module:
        setup = self.setup
        model = peer.same_network(setup.model, setup.recipe.model, setup.recipe.data, setup.num_classes)
        return peer.takes_prepared(model, setup.bucket).eval()

    def _guarded(self, work: Work) -> Work:
        def call() -> None:
            with torch.inference_mode(), self.setup.precision.autocast():
                work()

        return call

    def _some(self, batch: int) -> ImageBatch:
        """So many images, repeated where the first batch has fewer."""
        index = torch.arange(batch, device=self.setup.device) % self.setup.options.batch
        pixels = self.images.pixels[index].contiguous(memory_format=torch.channels_last)
        return ImageBatch(pixels, self.images.sizes[index])

    def _floors(self, batch: int) -> dict[str, float]:
        parts = work.prediction(self.setup.model, batch, self.setup.bucket, self.setup.precision)
        return {name: work.least_seconds(operations, self.setup.ceilings) for name, operations in parts.items()}

    def _apart(self) -> Row:
        """Our two ways, and how much torchvision found."""
        found, execution = self.found, self.setup.execution
        self.found = {}
        ours = {way: to_host(one, self.setup.device).wait() for way, one in found.items() if way != PEER}
        row: Row = {way: int(one.valid.sum()) for way, one in ours.items()}
        if len(ours) == 2:
            row = detections_apart(ours[EAGER], ours[execution], execution)
        return {**row, PEER: sum(len(image["scores"]) for image in found[PEER]) if PEER in found else None}
