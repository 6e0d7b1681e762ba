"""Predict every validation image, score the results meanwhile, and write what was found."""

import platform
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec import Struct, json, msgpack, structs
from torch import nn

from maskrcnn.config import Data, Recipe
from maskrcnn.data.buckets import MAX_SHAPES, Step, buckets_for, plan_evaluation, whole_images
from maskrcnn.data.dataset import Dataset, keep_objects, select
from maskrcnn.data.feeder import feed
from maskrcnn.data.loader import Loader
from maskrcnn.data.split import open_validation, with_split_of
from maskrcnn.data.tiles import cut_data
from maskrcnn.data.transforms import RawBatch
from maskrcnn.evaluate.coco import Evaluation, Metrics
from maskrcnn.evaluate.collect import collect
from maskrcnn.evaluate.hotcoco_engine import Truth, written_ids
from maskrcnn.evaluate.lvis import federated_of
from maskrcnn.evaluate.save import save, save_part
from maskrcnn.instances import Instances, from_detections
from maskrcnn.models.layers import folded
from maskrcnn.models.mask_rcnn import build
from maskrcnn.models.skip_init import SkipInit
from maskrcnn.recipes import write_recipe
from maskrcnn.recipes.adopt import with_network_of
from maskrcnn.run_folder import CONFIG
from maskrcnn.runtime.clock import Mark, mark, seconds_between
from maskrcnn.runtime.devices import name_of
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import Execution, HostCopy, to_host
from maskrcnn.runtime.ladder import choose_rungs, laddered
from maskrcnn.runtime.memory import explain_out_of_memory, keep_freed_memory
from maskrcnn.runtime.precision import choose_precision
from maskrcnn.runtime.trust import trust_kernels
from maskrcnn.runtime.warm import ENCODED, tasks_for, warm_together
from maskrcnn.sentences import Note, some_of
from maskrcnn.structures import Detections
from maskrcnn.ways import Ways
from maskrcnn.weights import Weights, fill

AHEAD = 4
"""Batches that may wait to be encoded and scored: bounds memory where that is slower than the model."""

LESS_MEMORY = (
    "what helps: a smaller evaluate.batch, evaluate.mixed_precision=true, smaller data.short_sides, fewer "
    "model.box_head.num_detections"
)

Results = list[dict[str, Any]]
Progress = Callable[[int, int], None]
"""Called with the images done and the images of this process."""


class Share(Struct):
    """What one process did."""

    image_ids: list[int]
    predictions: dict[int, bytes]
    """The results of each image as JSON, without brackets; empty where nobody wants the file."""
    predicted: int
    """Images whose prediction was timed."""
    seconds: float
    """Spent on them by the model alone."""
    scored: bytes = b""
    """The state of the evaluation, for the first process."""


class Batch(NamedTuple):
    """Detections that left the device, and whose they are."""

    raw: RawBatch
    detections: Detections


class Queued(NamedTuple):
    """A batch that the device is busy with, between two marks of its clock."""

    raw: RawBatch
    begin: Mark
    end: Mark
    detections: HostCopy


class Time(NamedTuple):
    """What the model spent on a batch of some padded size."""

    bucket: tuple[int, int]
    images: int
    seconds: float


def run(
    recipe: Recipe,
    weights: Weights,
    out: Path,
    world: World,
    progress: Progress | None = None,
    dataset: Dataset | None = None,
) -> Metrics:
    """Evaluate weights on a recipe's validation split.

    world     the processes that share the images: `distributed.start(recipe.device)`
    dataset   takes the place of the recipe's validation split
    The network, its classes, and how it sees pixels are those of the weights; data and `evaluate` are the recipe's.
    The first process writes metrics.json, details.json, predictions.json and
    config.yml to `out` and returns the metrics; the others return empty ones.
    Raises ValueError when the data set has categories that the weights do not know.
    """
    trust_kernels(world, warnings.warn)
    trained = weights.recipe
    recipe = structs.replace(recipe, data=with_split_of(recipe.data, trained.data))
    dataset = dataset or open_validation(recipe.data, trained.data)
    for note in dataset.notes if world.is_main else ():
        warnings.warn(f"{dataset.annotations}: {note}", stacklevel=2)
    check_classes(weights, dataset)
    with SkipInit():
        model = build(trained.model, len(trained.classes), len(trained.data.mean))
    fill(model, weights.tensors, weights.origin)
    recipe = structs.replace(
        with_network_of(recipe, trained),
        model=trained.model,
        classes=trained.classes,
        category_ids=trained.category_ids,
    )
    dtype = choose_precision(world.device, recipe.evaluate.mixed_precision).dtype
    warm_together([*tasks_for(model, dtype, learn=False), *ENCODED], world)
    metrics = evaluate(model.to(world.device), dataset, recipe, world, out, progress)
    if world.is_main:
        write_recipe(recipe, out / CONFIG)
    return metrics


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    world: World,
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    say: Callable[[str], None] = warnings.warn,
) -> Metrics:
    """Predict a split, each process its share of the batches, and score it on the first one.

    model     turns an ImageBatch into Detections
    dataset   what is predicted, and the truth that results are scored against
    out       where the first process writes what was found, if anywhere
    say       told when a way to run does not hold, see `Ladder`
    The metrics of the other processes are empty.
    """
    begin = time.perf_counter()
    world.doing("evaluating")
    keep_freed_memory(world.device)
    settings = recipe.evaluate
    truth = Truth(dataset, federated_of(dataset))
    evaluation = Evaluation(truth, max_dets=settings.max_dets, boundary=settings.boundary)
    mine = Share(image_ids=[], predictions={}, predicted=0, seconds=0.0)
    with _keeping_part(mine, dataset, world, out, say):
        predict_share(model, dataset, recipe, world, evaluation, progress, mine, keep=out is not None, say=say)
    if not world.is_main:
        mine.scored = evaluation.to_bytes()
    contents = world.gather_bytes(b"" if world.is_main else msgpack.encode(mine))
    if not world.is_main:
        return Metrics()
    shares = [mine, *(msgpack.decode(content, type=Share) for content in contents[1:])]
    seen = sorted(chain.from_iterable(share.image_ids for share in shares))
    assert seen == sorted(dataset.image_ids.tolist()), "every image is predicted exactly once"
    evaluation.merge(share.scored for share in shares[1:])
    metrics = evaluation.metrics()
    seconds = time.perf_counter() - begin
    metrics["speed"] = {
        "predict": sum(share.predicted / share.seconds for share in shares if share.predicted),
        "evaluate": len(seen) / seconds,
        "images": len(seen),
        "seconds": seconds,
    }
    metrics["versions"] = versions(world)
    if out is not None:
        save(out, metrics, dict(chain.from_iterable(share.predictions.items() for share in shares)))
    return metrics


@contextmanager
def _keeping_part(
    share: Share, dataset: Dataset, world: World, out: Path | None, say: Callable[[str], None]
) -> Iterator[None]:
    """Write what this process has found when it is stopped; there are no scores of a part."""
    try:
        yield
    except KeyboardInterrupt:
        if out is not None and share.predictions:
            path = save_part(out, world.rank, share.predictions)
            done = f"{len(share.predictions)} of {len(dataset.image_ids)} images"
            say(f"stopped after {done}: results of these are in {path}, without scores, which would be of a part")
        raise


def predict_share(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    world: World,
    evaluation: Evaluation,
    progress: Progress | None = None,
    share: Share | None = None,
    *,
    keep: bool,
    say: Callable[[str], None] = warnings.warn,
) -> Share:
    """Predict this process's batches. A thread encodes and scores one while the model is busy with the next.

    share  gets what is found as soon as it is, and is returned
    keep   whether results are also kept as JSON
    """
    settings = recipe.data
    if recipe.model.rpn.anchor_strides == "divided":  # then anchors depend on the padding: each shape gets its own
        settings = structs.replace(settings, num_buckets=MAX_SHAPES)
    shown, plan = _plan(dataset, settings, recipe.evaluate.batch, world)
    loader = Loader(shown, plan, settings, pin_memory=world.device.type == "cuda")
    collected = collect(shown, [step.indices for step in plan])
    share = share or Share(image_ids=[], predictions={}, predicted=0, seconds=0.0)
    model.eval()  # live batch norms rest
    times: list[Time] = []
    waiting: deque[Future[None]] = deque()
    ids = dict(zip(dataset.image_ids.tolist(), written_ids(dataset), strict=True))

    def take(batch: Batch) -> None:
        results = _to_coco(collected.add(batch.raw.indices.tolist(), _instances(batch, recipe)), dataset, recipe, ids)
        evaluation.add([ids[number] for number in results], list(chain.from_iterable(results.values())))
        if keep:
            share.predictions |= {number: json.encode(found)[1:-1] for number, found in results.items()}

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder") as encoder:
        for batch in _predict(model, loader, recipe, world, times, say):
            waiting.append(encoder.submit(take, batch))
            if len(waiting) > AHEAD:
                waiting.popleft().result()
            share.image_ids += collected.finished(batch.raw.indices.tolist())
            if progress is not None:
                progress(len(share.image_ids), collected.num_images)
        for future in waiting:
            future.result()
    for note in loader.oddities.notes():
        warnings.warn(note, Note, stacklevel=2)
    rungs = choose_rungs(recipe.evaluate.execution, world.device, "evaluate.execution")
    share.predicted, share.seconds = warm(times, rungs[0])
    return share


def _plan(dataset: Dataset, settings: Data, batch: int, world: World) -> tuple[Dataset, list[Step]]:
    """What this process predicts: whole images, or all tiles of some images; and its batches."""
    if not settings.tile:
        buckets = buckets_for(dataset.sizes, settings, [max(settings.short_sides)])
        plan = plan_evaluation(whole_images(dataset.sizes), settings, buckets, batch=batch)
        return dataset, plan[world.rank :: world.size]
    mine = keep_objects(dataset, np.zeros(len(dataset.labels), np.bool_))
    tiles = cut_data(select(mine, np.arange(world.rank, len(dataset.image_ids), world.size)), settings)
    if not len(tiles.image_ids):
        return tiles, []
    buckets = buckets_for(tiles.sizes, settings, [max(settings.short_sides)])
    return tiles, plan_evaluation(whole_images(tiles.sizes), settings, buckets, batch=batch)


def check_classes(weights: Weights, dataset: Dataset) -> None:
    """Raise ValueError, naming the difference, unless the weights know all categories of the annotations by name."""
    ours, theirs = weights.recipe.classes, dataset.category_names
    if ours == theirs or set(theirs) <= set(ours):
        twice = [name for name in dict.fromkeys(theirs) if theirs.count(name) > 1]
        if ours != theirs and twice:
            raise ValueError(
                f"{dataset.annotations} has several categories called {some_of(twice)}; give each its own name"
            )
        return
    only = [some_of([name for name in a if name not in b]) for a, b in ((ours, theirs), (theirs, ours))]
    raise ValueError(
        f"the weights {weights.origin} have {len(ours)} classes and {dataset.annotations} has {len(theirs)} "
        f"categories, only the weights know {only[0]}, only the data set knows {only[1]}; evaluate on annotations "
        "with the categories that were trained, or name the classes by `maskrcnn convert WEIGHTS DEST classes=[a,b]`"
    )


def versions(world: World) -> dict[str, str]:
    """What computed the numbers."""
    packages = {name: _version(name) for name in ("maskrcnn", "torch", "numpy", "hotcoco")}
    device = f"{world.size} x {name_of(world.device)}"
    return {**packages, "python": platform.python_version(), "device": device}


@torch.inference_mode()
def _predict(
    model: nn.Module,
    loader: Loader,
    recipe: Recipe,
    world: World,
    times: list[Time],
    say: Callable[[str], None],
) -> Iterator[Batch]:
    """Detections of each batch, on the CPU; meanwhile the device has begun with the next."""
    device, settings = world.device, recipe.evaluate
    precision = choose_precision(device, settings.mixed_precision)
    rungs = choose_rungs(settings.execution, device, "evaluate.execution")
    ways = Ways.of(settings, recipe.data)
    forward = laddered(ways.network(folded(model, precision.dtype)), rungs, device, say)
    queued: Queued | None = None

    def prepare(raw: RawBatch) -> Any:
        return ways.prepare(raw.images, raw.raw_sizes, raw.original_sizes, raw.view, raw.bucket, device)

    for raw, images in feed(loader, prepare, device):
        raw = raw._replace(view=ways.frame(raw.view, raw.original_sizes))
        with precision.autocast(), explain_out_of_memory(device, len(raw.image_ids), raw.bucket, LESS_MEMORY):
            begin = mark(device)
            detections = forward(images)
            before, queued = queued, Queued(raw, begin, mark(device), to_host(detections, device))
        if before is not None:
            yield _arrived(before, times)
    if queued is not None:
        yield _arrived(queued, times)


def _arrived(batch: Queued, times: list[Time]) -> Batch:
    detections = batch.detections.wait()
    times.append(Time(batch.raw.bucket, len(batch.raw.image_ids), seconds_between(batch.begin, batch.end)))
    return Batch(batch.raw, detections)


def warm(times: Sequence[Time], execution: Execution) -> tuple[int, float]:
    """Images, and the seconds of the model on them: without the batches that compiled, tuned or recorded.

    These are the first, and where graphs are recorded the first two of each shape; if there are no others, all count.
    """
    seen: Counter[tuple[int, int, int]] = Counter()
    counted = []
    for number, one in enumerate(times):
        if number and (execution == "eager" or seen[*one.bucket, one.images] >= 2):
            counted.append(one)
        seen[*one.bucket, one.images] += 1
    counted = counted or list(times)
    return sum(one.images for one in counted), sum(one.seconds for one in counted)


def _instances(batch: Batch, recipe: Recipe) -> list[Instances]:
    """What was found in each image of a batch."""
    raw, head = batch.raw, recipe.model.mask_head
    return from_detections(batch.detections, raw.view, raw.original_sizes, recipe.classes, head=head)


def _to_coco(
    found: Mapping[int, Instances], dataset: Dataset, recipe: Recipe, ids: Mapping[int, int | str]
) -> dict[int, Results]:
    """Results of each image under the data set's ids; classes that it does not have are left out.

    ids   what each image's id is in its source, which the results carry
    """
    of_labels = label_ids(recipe.classes, dataset)
    known = np.array([id is not None for id in of_labels])
    return {
        image: instances[known[instances.labels - 1]].to_coco(ids[image], [id or 0 for id in of_labels])
        for image, instances in found.items()
    }


def label_ids(names: Sequence[str], dataset: Dataset) -> list[int | None]:
    """The data set's id of each class of the weights, in label order; None of a class that it does not have."""
    if tuple(names) == dataset.category_names:  # which may repeat
        return list(dataset.category_ids)
    ids = dict(zip(dataset.category_names, dataset.category_ids, strict=True))
    return [ids.get(name) for name in names]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "not installed"
