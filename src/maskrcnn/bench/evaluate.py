"""An evaluation from image files to scores, in parts and whole, beside one of torchvision's network and pasting.

The first batches of each padded size compile, tune or record. How fast the others go is told apart from the whole.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from typing import NamedTuple

import numpy as np
import torch
from msgspec import structs

from maskrcnn.bench.comparison import EAGER, PEER, without_empty
from maskrcnn.bench.peer_evaluation import evaluate_peer
from maskrcnn.bench.results import Row, Section
from maskrcnn.bench.setup import Options, Setup, set_up
from maskrcnn.bench.timing import in_turns, steady_seconds
from maskrcnn.config import Recipe
from maskrcnn.data.buckets import Step, buckets_for, plan_evaluation, whole_images
from maskrcnn.data.dataset import Dataset, select
from maskrcnn.data.feeder import feed
from maskrcnn.data.loader import Loader
from maskrcnn.data.split import open_split
from maskrcnn.data.transforms import prepare
from maskrcnn.evaluate.run import evaluate
from maskrcnn.instances import from_detections
from maskrcnn.runtime.distributed import World

COLD = 3
"""Batches of a padded size until recorded ones are replayed."""


class Course(NamedTuple):
    """When things happened in one evaluation, in seconds."""

    begin: float
    arrivals: list[float]
    """Arrival of each batch's detections."""
    end: float


def run(recipe: Recipe, options: Options) -> list[Section]:
    """The table of times, over as many images as `options.repeats` batches hold, repeated where there are fewer."""
    data = open_split(recipe.data, "val")
    setup = set_up(recipe, recipe.evaluate, data, options)
    many = repeated(data, options.batch * options.repeats)
    rows = [*_parts(setup), *_whole(setup, many)]
    title = f"Evaluation, {recipe.name}, batch {options.batch}, {setup.facts['precision']}"
    facts = {**setup.facts, "images": str(len(many.image_ids))}
    notes = (
        [setup.lacks_peer] if setup.lacks_peer else [f"beside {PEER}'s network, loading, encoding and scoring are ours"]
    )
    return [Section(setup.key("eval"), title, facts, without_empty(rows), notes)]


def repeated(data: Dataset, number: int) -> Dataset:
    """So many images of a data set, again and again under new ids."""
    many = select(data, np.arange(number) % len(data.image_ids))
    ids = np.arange(1, number + 1), np.arange(1, len(many.labels) + 1)
    return replace(many, image_ids=ids[0], annotation_ids=ids[1])


def warm_seconds(course: Course, steps: Sequence[Step], cold: int = COLD) -> float | None:
    """Seconds of one image in batches that found everything ready, and its share of what comes after them.

    While a batch is on its way, the device begins with the next: where one of the two was cold, neither counts. The
    last, behind which no other begins, arrives at once on a CPU, and does not count either.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    is_cold = []
    for step in steps:
        shape = (*step.bucket, len(step.indices))
        is_cold.append(seen[shape] < cold)
        seen[shape] += 1
    sizes, spent = (
        [len(step.indices) for step in steps],
        [after - before for before, after in pairwise(course.arrivals)],
    )
    warm = [index for index in range(1, len(steps) - 1) if not any(is_cold[index : index + 2])]
    if not warm:
        return None
    alone = sum(spent[index - 1] for index in warm) / sum(sizes[index] for index in warm)
    return alone + (course.end - course.arrivals[-1]) / sum(sizes)


def watched(evaluation: Callable[[Callable[[int, int], None]], object]) -> Course:
    """The course of an evaluation that tells its progress after each batch."""
    arrivals: list[float] = []
    begin = time.perf_counter()
    evaluation(lambda done, total: arrivals.append(time.perf_counter()))
    return Course(begin, arrivals, time.perf_counter())


def _parts(setup: Setup) -> list[Row]:
    """Rows of the parts, each by itself, on one padded size."""
    settings, device, batch = setup.recipe.data, setup.device, setup.options.batch
    batches = feed(
        Loader(setup.data, cycle(setup.steps), settings, pin_memory=device.type == "cuda"),
        lambda raw: prepare(raw, device, settings),
        device,
    )
    ahead = settings.num_workers * settings.prefetch_size
    loading = steady_seconds(batches, device, skip=ahead + 1, count=setup.options.repeats)
    batches.close()
    encoding = in_turns({"": _encoder(setup)}, torch.device("cpu"), setup.options.repeats)[""]
    return [
        _row(f"decoding and feeding alone, {settings.num_workers} threads", loading / batch),
        _row("encoding alone", encoding / batch),
    ]


def _encoder(setup: Setup) -> Callable[[], object]:
    """Detections of one batch on the host to COCO results."""
    with torch.inference_mode(), setup.precision.autocast():
        found = setup.model.eval()(prepare(setup.raw, setup.device, setup.recipe.data))
    detections = type(found)(*(tensor.cpu() for tensor in found))
    view, originals, names = setup.raw.view, setup.raw.original_sizes, setup.data.category_names
    return lambda: [one.to_coco() for one in from_detections(detections, view, originals, names)]


def _whole(setup: Setup, data: Dataset) -> list[Row]:
    recipe, settings = setup.recipe, structs.replace(setup.recipe.evaluate, batch=setup.options.batch)
    recipe = structs.replace(recipe, evaluate=settings, classes=data.category_names, category_ids=data.category_ids)
    buckets = buckets_for(data.sizes, recipe.data, [max(recipe.data.short_sides)])
    steps = plan_evaluation(whole_images(data.sizes), recipe.data, buckets, batch=setup.options.batch)
    speed: dict[str, float] = {}

    def ours(progress: Callable[[int, int], None]) -> None:
        speed.update(evaluate(setup.model, data, recipe, World(setup.device), progress=progress)["speed"])

    courses = {"": watched(ours)}
    if not setup.lacks_peer:
        courses[PEER] = watched(lambda progress: evaluate_peer(setup, data, steps, progress))
    cold = 1 if setup.execution == EAGER else COLD
    warm = {name: warm_seconds(course, steps, cold) for name, course in courses.items()}
    whole = {name: (course.end - course.begin) / len(data.image_ids) for name, course in courses.items()}
    ours_ends, peer_ends = (
        (one.end - one.arrivals[-1]) / len(data.image_ids) for one in (courses[""], courses.get(PEER, courses[""]))
    )
    return [
        _row(f"prediction alone, {setup.execution}", 1 / speed["predict"]),
        _row(
            "after the last prediction: encoding what is left, scoring",
            ours_ends,
            peer_ends if PEER in courses else None,
        ),
        _row("whole, once everything is warm", warm[""], warm.get(PEER)),
        _row("whole, as it was", whole[""], whole.get(PEER)),
    ]


def _row(part: str, ours: float | None, theirs: float | None = None) -> Row:
    """A row of the table, from seconds for each image."""
    return {
        "part": part,
        "ms/image": ours and 1000 * ours,
        f"{PEER}, ms/image": theirs and 1000 * theirs,
        "ratio": theirs / ours if ours and theirs else None,
        "images/s": 1 / ours if ours else None,
    }
