"""Settings that contradict each other or would have no effect."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from maskrcnn.config import Backbone, Data, Optimizer, PointHead, Recipe, Schedule, Train
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
NEUTRAL = {"saturation": 0.0, "hue": 0.0, "jpeg": 100}
"""Augmentations of red, green and blue alone, and their values that change nothing."""

NO_WEIGHTS = ("false", "none", "null", "no", "random")
"""What people write for no pretrained weights, which is an empty text here."""

Contradiction = tuple[tuple[str, ...], str]
"""Settings concerned, the one to report first, and a sentence that says what is wrong."""


def contradictions(recipe: Recipe) -> Iterator[Contradiction]:
    """Yield what the types of settings cannot check. A setting at its default is never reported as without effect."""
    yield from _secrets(recipe)
    yield from _addresses(recipe)
    yield from _data(recipe)
    yield from _augment(recipe)
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


def _data(recipe: Recipe) -> Iterator[Contradiction]:
    data = recipe.data
    if data.read_ahead != Data().read_ahead and data.remote == "copy":
        yield ("data.read_ahead", "data.remote"), "has no effect on images that are copied; set data.remote=stream"
    yield from _tiles(data)
    if not data.short_sides:
        yield ("data.short_sides",), "expected at least one length"
    elif data.fit == "sides" and data.max_side < max(data.short_sides):
        yield (
            ("data.max_side", "data.short_sides"),
            f"expected at least the largest of data.short_sides, {max(data.short_sides)}, got {data.max_side}",
        )
    if data.averaging != "triangle" and not data.antialias:
        yield ("data.averaging", "data.antialias"), "has no effect without data.antialias; leave it out"
    if data.fixed_point and data.whole_levels:
        yield (
            ("data.fixed_point", "data.whole_levels"),
            "cannot go with data.whole_levels, which rounds twice; leave one out",
        )
    if data.repeat_threshold != Data().repeat_threshold and data.sampling != "repeat_factor":
        yield ("data.repeat_threshold", "data.sampling"), "has no effect but with data.sampling=repeat_factor"
    if data.negatives is not None and data.tile_empty != Data().tile_empty:
        yield ("data.tile_empty", "data.negatives"), "has no effect with data.negatives; leave one out"
    yield from _levels(data)
    if data.mean:
        yield from of_bands(data, len(data.mean))
    if len(data.std) != len(data.mean):
        yield (
            ("data.std", "data.mean"),
            f"expected a number for each of the {len(data.mean)} bands of data.mean, got {len(data.std)}",
        )
    if min(data.std, default=1) <= 0:
        yield ("data.std",), f"expected numbers > 0, since pixels are divided by them, got {list(data.std)}"


def _levels(data: Data) -> Iterator[Contradiction]:
    if data.level_range and data.levels != "fixed":
        yield (
            ("data.level_range", "data.levels"),
            f"has no effect on data.levels={data.levels}; set data.levels=fixed, or data.level_range=[]",
        )
    if any(low >= high for low, high in data.level_range):
        yield ("data.level_range",), f"expected pairs of a lower and a higher number, got {_lists(data.level_range)}"
    low, high = data.level_percentiles
    if not 0 <= low < high <= 100:
        yield ("data.level_percentiles",), f"expected 0 <= low < high <= 100, got {[low, high]}"
    elif (low, high) != Data().level_percentiles and data.levels != "percentiles":
        yield (
            ("data.level_percentiles", "data.levels"),
            f"has no effect on data.levels={data.levels}; set data.levels=percentiles",
        )
    if len(data.shown_bands) not in (0, 1, 3):
        yield ("data.shown_bands",), f"expected one band or three, got {len(data.shown_bands)}"


def of_bands(data: Data, num_bands: int) -> Iterator[Contradiction]:
    """Yield what does not suit images of so many bands, which are known once `data.mean` is given or measured."""
    if len(data.level_range) not in (0, 1, num_bands):
        yield (
            ("data.level_range", "data.mean"),
            f"expected one pair, or one for each of the {num_bands} bands of data.mean, got {len(data.level_range)}",
        )
    for name, value in NEUTRAL.items():
        if num_bands != 3 and getattr(data.augment, name) not in (None, value):
            yield (
                (f"data.augment.{name}", "data.mean"),
                f"has no effect on images of {num_bands} bands, only on red, green and blue; leave it out",
            )


def of_images(data: Data, num_bands: int) -> Iterator[Contradiction]:
    """Yield what does not suit images of so many bands: `of_bands`, and bands to show that a plan may still bring."""
    yield from of_bands(data, num_bands)
    if max(data.shown_bands, default=0) > num_bands:
        yield (
            ("data.shown_bands", "data.mean"),
            f"expected numbers of 1 to {num_bands}, the bands of data.mean, got {list(data.shown_bands)}",
        )


def _lists(pairs: Iterable[tuple[float, float]]) -> list[list[float]]:
    return [list(pair) for pair in pairs]


def _augment(recipe: Recipe) -> Iterator[Contradiction]:
    augment = recipe.data.augment
    low, high = augment.scale or ((1.0, 1.0) if augment.strength == "off" else (1.0, 2.0))
    if low > high:
        yield ("data.augment.scale",), f"expected the lowest factor before the highest, got {[low, high]}"
    elif augment.whole_objects and high <= 1:
        yield (
            ("data.augment.whole_objects", "data.augment.scale", "data.augment.strength"),
            "has no effect on images that are never enlarged; set data.augment.scale, such as [0.8, 1.25]",
        )
    levels = recipe.data.levels
    if levels != "full" and augment.jpeg not in (None, NEUTRAL["jpeg"]):
        yield (
            ("data.augment.jpeg", "data.levels"),
            f"has no effect on data.levels={levels}, only on bytes as they are; set data.levels=full, or leave it out",
        )
    yield from _copy_paste(recipe)


def _copy_paste(recipe: Recipe) -> Iterator[Contradiction]:
    augment, train = recipe.data.augment, recipe.train
    if augment.blend and not augment.copy_paste:
        yield (
            ("data.augment.blend", "data.augment.copy_paste"),
            "has no effect where nothing is pasted; set data.augment.copy_paste, such as 0.5",
        )
    for name, size in (("batch", train.batch), ("micro_batch", train.micro_batch)):
        if augment.copy_paste and size % 2:
            yield (
                (f"train.{name}", "data.augment.copy_paste"),
                f"expected an even number, since images are pasted onto each other in pairs, got {size}; change it, or "
                "set data.augment.copy_paste=0",
            )


def _tiles(data: Data) -> Iterator[Contradiction]:
    for name in ("tile_overlap", "tile_empty"):
        if not data.tile and getattr(data, name) != getattr(Data(), name):
            yield (f"data.{name}", "data.tile"), "has no effect on whole images; set data.tile"
    if data.tile and data.fit == "box":
        yield ("data.fit", "data.tile"), "cannot go with data.tile, whose tiles are square; set data.fit=sides"
    if data.tile and data.levels == "percentiles":
        yield (
            ("data.levels", "data.tile"),
            "would map each tile by percentiles of its own; set data.levels=fixed, with data.level_range",
        )
    if data.tile and data.remote == "stream":
        yield (
            ("data.remote", "data.tile"),
            "would fetch an image once for each of its tiles; set data.remote=copy",
        )


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
