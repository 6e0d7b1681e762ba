"""Bands, levels, mean and deviation of the images that a run learns from, as far as its recipe leaves them open."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64
from msgspec.structs import replace

from maskrcnn import config
from maskrcnn.config import Data, Recipe
from maskrcnn.config.data import Levels as Kind
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.levels import Levels, levels_of
from maskrcnn.data.measure import Numbers, look_unusual, measure_levels, measure_numbers
from maskrcnn.recipes.contradictions import LITE_PIXELS
from maskrcnn.recipes.contradictions_of_data import of_images
from maskrcnn.sentences import counted

MOST_USED = 0.5
"""Share of a type's range from which on all of it is taken; below, what is used."""
Reasoned = tuple[str, Any, str]
"""A setting, its value, and the reason."""
MEASURED = ("level_range", "mean", "std")
"""Settings of `data` that are measured where they are empty."""


def with_measured(
    recipe: Recipe, data: Dataset, say: Callable[[str], None], before: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe with what it leaves to be measured.

    before   section `data` of the recipe of a run that goes on, whose numbers are taken
    Raises OSError or ValueError where an image cannot be read, or settings do not suit the bands that are found.
    """
    settings = recipe.data
    if before is not None:
        kept = {name: _tuples(before[name]) for name in MEASURED if _is_open(settings, name) and before.get(name)}
        settings = replace(settings, **kept)
    if not any(_is_open(settings, name) for name in MEASURED):
        _check(settings, len(settings.mean))
        return replace(recipe, data=settings)
    numbers = measure_numbers(data)
    if _is_open(settings, "level_range"):
        settings = replace(settings, level_range=numbers.ranges)
    _check(settings, len(settings.mean) or len(numbers.ranges))
    if not settings.mean:
        levels = levels_of(settings)._replace(num_bands=len(numbers.ranges))
        settings = replace(settings, **_mean_and_std(data, levels, recipe.model.backbone))
    told = ", ".join(f"data.{name}={_lists(getattr(settings, name))}" for name in MEASURED if getattr(settings, name))
    say(f"measured over {numbers.num_images} training images of {counted(len(numbers.ranges), 'bands')}: {told}")
    return replace(recipe, data=settings)


def _check(settings: Data, num_bands: int) -> None:
    wrong = [f"{paths[0]}: {sentence}" for paths, sentence in of_images(settings, num_bands)]
    if wrong:
        raise ValueError("\n".join(wrong))


def choose_pixels(data: Dataset, backbone: config.Backbone, given: Collection[str] = ()) -> Iterator[Reasoned]:
    """Settings of a plan for images that are not gray or RGB of 8 bits; none for those that are.

    given   settings that the person gives, by their dotted paths
    """
    if not look_unusual(data):
        return
    numbers = measure_numbers(data)
    if numbers.is_usual:
        return
    bands = len(numbers.ranges)
    yield from _levels(data, numbers, backbone, given)
    if bands not in (1, 3) and backbone.pretrained:
        yield ("model.backbone.frozen_stages", 0, f"the first layer has to learn which of {bands} bands tell what")


def _levels(data: Dataset, numbers: Numbers, backbone: config.Backbone, given: Collection[str]) -> Iterator[Reasoned]:
    if not {f"data.{name}" for name in ("levels", "level_percentiles", *MEASURED)}.isdisjoint(given):
        yield ("data.mean", [], "measured when training begins")
        yield ("data.std", [], "measured when training begins")
        return
    kind, why = _kind(numbers)
    levels = Levels(kind, num_bands=len(numbers.ranges), ranges=numbers.ranges)
    yield ("data.levels", kind, why)
    if kind == "fixed":
        yield ("data.level_range", _lists(numbers.ranges), f"measured over {numbers.num_images} training images")
    for name, values in _mean_and_std(data, levels, backbone).items():
        told = f"{counted(len(values), 'bands')}, measured over {numbers.num_images} training images"
        yield (f"data.{name}", list(values), told)


def _kind(numbers: Numbers) -> tuple[Kind, str]:
    bits = 8 * numbers.dtype.itemsize
    if numbers.dtype.kind == "f":
        return "fixed", f"{numbers.dtype} has no range of its own"
    if numbers.share >= MOST_USED:
        return "full", f"values reach {numbers.share:.0%} of {bits} bits"
    most = max(high for _, high in numbers.ranges)
    return "fixed", f"values reach {most:.0f}, which is {100 * numbers.share:.2g} % of {bits} bits"


def _mean_and_std(data: Dataset, levels: Levels, backbone: config.Backbone) -> dict[str, tuple[float, ...]]:
    """Mean and deviation of each band, by which pixels vary as those that the backbone's weights were trained on."""
    mean, std = measure_levels(data, levels)
    wider = LITE_PIXELS[1][0] / (sum(Data().std) / 3) if backbone.is_efficientnet and backbone.pretrained else 1.0
    return {"mean": _rounded(mean), "std": _rounded(wider * std)}


def _rounded(values: Float64[np.ndarray, " C"]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def _is_open(settings: Data, name: str) -> bool:
    """Whether a setting is left to be measured."""
    return not getattr(settings, name) and (name != "level_range" or settings.levels == "fixed")


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list | tuple) else values


def _lists(values: Any) -> Any:
    return list(map(_lists, values)) if isinstance(values, list | tuple) else values
