"""Settings of images and augmentation that contradict each other, suit no such images, or would have no effect."""

from collections.abc import Iterable, Iterator

from maskrcnn.config import Data, Recipe

NEUTRAL = {"saturation": 0.0, "hue": 0.0, "jpeg": 100}
"""Augmentations of red, green and blue alone, and their values that change nothing."""

Contradiction = tuple[tuple[str, ...], str]
"""Settings concerned, the one to report first, and a sentence that says what is wrong."""


def of_data(recipe: Recipe) -> Iterator[Contradiction]:
    """Yield what is wrong with the settings of data, and of augmentation."""
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
    yield from _augment(recipe)


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
