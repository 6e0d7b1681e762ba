"""Settings that contradict each other or would have no effect."""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from maskrcnn.config import Backbone, Data, Optimizer, PointHead, Recipe, Schedule, Train
from maskrcnn.recipes.contradictions_of_data import Contradiction, of_data
from maskrcnn.recipes.flat import flatten
from maskrcnn.storage.location import at, printable

PLACES = ("dataset_dir", "train_img_dir", "val_img_dir", "train_anno_path", "val_anno_path")
"""Settings of data that name files or folders."""
WITHOUT_BOTTLENECKS = ("resnet18", "resnet34")
LITE_PIXELS = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
"""Mean and standard deviation of the pixels that published EfficientNet-Lite weights were trained on."""
OTHER_MEANS = Data().mean, (0.0, 0.0, 0.0)
OTHER_STDS = Data().std, (1.0, 1.0, 1.0), (255.0, 255.0, 255.0)
"""Means and deviations of the pixels that other weights were trained on; anything else was measured."""
NO_WEIGHTS = ("false", "none", "null", "no", "random")
"""What people write for no pretrained weights, which is an empty text here."""


def contradictions(recipe: Recipe) -> Iterator[Contradiction]:
    """Yield what the types of settings cannot check. A setting at its default is never reported as without effect."""
    yield from _secrets(recipe)
    yield from _addresses(recipe)
    yield from of_data(recipe)
    yield from _model(recipe)
    yield from _train(recipe)
    yield from _schedule(recipe)
    yield from _evaluate(recipe)
    if len(recipe.classes) != len(recipe.category_ids):
        yield (
            ("classes", "category_ids"),
            f"expected a name for each of the {len(recipe.category_ids)} category_ids, got {len(recipe.classes)} names",
        )


def _secrets(recipe: Recipe) -> Iterator[Contradiction]:
    """Recipes are stored in runs and beside weights, for everybody to read."""
    for path, value in flatten(msgspec.to_builtins(recipe)):
        if isinstance(value, str) and value != printable(value):
            yield (
                (path,),
                f"expected an address without a user or a query, such as {printable(value)}, since recipes are stored "
                "for everybody to read; credentials belong into environment variables (docs/storage.md)",
            )


def _addresses(recipe: Recipe) -> Iterator[Contradiction]:
    for name in PLACES:
        try:
            at(getattr(recipe.data, name))
        except ValueError as error:
            yield (f"data.{name}",), str(error)


def _model(recipe: Recipe) -> Iterator[Contradiction]:
    backbone, rpn = recipe.model.backbone, recipe.model.rpn
    if not rpn.aspect_ratios:
        yield ("model.rpn.aspect_ratios",), "expected at least one ratio"
    if rpn.positive_iou < rpn.negative_iou:
        yield (
            ("model.rpn.positive_iou", "model.rpn.negative_iou"),
            f"expected at least model.rpn.negative_iou, {rpn.negative_iou}, got {rpn.positive_iou}",
        )
    if backbone.pretrained.lower() in NO_WEIGHTS:
        yield (
            ("model.backbone.pretrained",),
            f"expected imagenet, a published name or a file, got {backbone.pretrained}; '' begins with random weights",
        )
    yield from _efficientnet(recipe)
    yield from _point_head(recipe)
    if backbone.stride_in_1x1 and backbone.kind in WITHOUT_BOTTLENECKS:
        yield (
            ("model.backbone.stride_in_1x1", "model.backbone.kind"),
            f"has no effect on {backbone.kind}, which has no bottlenecks",
        )
    if backbone.kind.startswith("resnext") and backbone.width % 64:
        yield (
            ("model.backbone.width", "model.backbone.kind"),
            f"expected a multiple of 64, since the groups of {backbone.kind} have whole channels, got {backbone.width}",
        )
    if not backbone.pretrained and backbone.frozen_stages:
        yield (
            ("model.backbone.frozen_stages", "model.backbone.pretrained"),
            "expected 0, since frozen stages stay random while model.backbone.pretrained is empty, "
            f"got {backbone.frozen_stages}",
        )


def _point_head(recipe: Recipe) -> Iterator[Contradiction]:
    head, default = recipe.model.point_head, PointHead()
    if not head.enabled:
        for name in ("channels", "subdivisions", "num_test_points", "num_points"):
            if getattr(head, name) != getattr(default, name):
                yield (
                    (f"model.point_head.{name}", "model.point_head.enabled"),
                    "has no effect without a point head; set model.point_head.enabled=true",
                )


def _efficientnet(recipe: Recipe) -> Iterator[Contradiction]:
    backbone, default, data = recipe.model.backbone, Backbone(), recipe.data
    if not backbone.is_efficientnet:
        return
    for name in ("width", "stride_in_1x1", "stem_pool"):
        if getattr(backbone, name) != getattr(default, name):
            yield (
                (f"model.backbone.{name}", "model.backbone.kind"),
                f"has no effect on {backbone.kind}, only on ResNets; leave it out",
            )
    is_other = data.mean in OTHER_MEANS or data.std in OTHER_STDS
    if backbone.pretrained == "imagenet" and is_other and (data.mean, data.std) != LITE_PIXELS:
        mean, std = map(list, LITE_PIXELS)
        yield (
            ("data.mean", "data.std", "model.backbone.kind", "model.backbone.pretrained"),
            f"expected data.mean={mean} data.std={std}, on which the ImageNet weights of {backbone.kind} were trained, "
            f"got data.mean={list(data.mean)} data.std={list(data.std)}; the recipe lite has them",
        )


def _train(recipe: Recipe) -> Iterator[Contradiction]:
    train = recipe.train
    if train.minutes and train.max_steps:
        yield (
            ("train.max_steps", "train.minutes"),
            "cannot go with train.minutes, which decides the number of steps; leave one out",
        )
    if train.patience and not train.evaluate_every:
        yield ("train.patience", "train.evaluate_every"), "has no effect without evaluations; leave it out"
    if train.micro_batch > train.batch:
        yield (
            ("train.micro_batch", "train.batch"),
            f"expected at most train.batch, {train.batch}, got {train.micro_batch}",
        )
    if train.recompute and recipe.model.backbone.norm in ("batch_norm", "sync_batch_norm"):
        yield (
            ("train.recompute", "model.backbone.norm"),
            "expected false, since live batch norm would update its statistics twice per step",
        )
    if not train.ema and train.ema_warmup != Train().ema_warmup:
        yield ("train.ema_warmup", "train.ema"), "has no effect without train.ema; leave it out"
    if train.optimizer.kind == "adamw" and train.optimizer.momentum != Optimizer().momentum:
        yield ("train.optimizer.momentum", "train.optimizer.kind"), "has no effect on adamw; leave it out"


def _evaluate(recipe: Recipe) -> Iterator[Contradiction]:
    scales = recipe.evaluate.scales
    if not scales or len(set(scales)) < len(scales):
        yield ("evaluate.scales",), f"expected at least one size, each once, got {list(scales)}"


def _schedule(recipe: Recipe) -> Iterator[Contradiction]:
    schedule, default, epochs = recipe.train.schedule, Schedule(), recipe.train.epochs
    milestones = schedule.milestones
    kind = "train.schedule.kind"
    if any(later <= earlier for earlier, later in pairwise(milestones)):
        yield ("train.schedule.milestones",), f"expected ascending epochs, got {list(milestones)}"
    elif schedule.kind == "steps" and milestones != default.milestones and max(milestones, default=0) >= epochs:
        yield (
            ("train.schedule.milestones", "train.epochs", kind),
            f"expected epochs before the last, {epochs} (train.epochs), got {list(milestones)}",
        )
    if schedule.kind == "cosine":
        for name in ("milestones", "decay"):
            if getattr(schedule, name) != getattr(default, name):
                yield (f"train.schedule.{name}", kind), "has no effect on a cosine schedule; leave it out"
    if not schedule.warmup_steps and schedule.warmup_factor != default.warmup_factor:
        yield (
            ("train.schedule.warmup_factor", "train.schedule.warmup_steps"),
            "has no effect without train.schedule.warmup_steps; leave it out",
        )
