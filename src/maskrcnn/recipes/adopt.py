"""A recipe that uses weights which bring a recipe of their own."""

from collections.abc import Sequence

import msgspec

from maskrcnn.config import Recipe
from maskrcnn.recipes.check import build
from maskrcnn.recipes.read import Layer, read_overrides

OF_THE_WEIGHTS = ("mean", "std", "rounding", "antialias", "whole_levels")
"""Settings of `data` that weights were made with."""


def override(recipe: Recipe, words: Sequence[str], title: str) -> Recipe:
    """The recipe with some settings replaced, as a command line replaces those of a file."""
    return build([Layer(title, list(msgspec.to_builtins(recipe).items())), read_overrides(words)], title)


def with_network_of(recipe: Recipe, weights: Recipe, words: Sequence[str] = ()) -> Recipe:
    """The recipe with the network of some weights, and pixels prepared as for them.

    words   a command line, whose settings win where they say something about that
    """
    data = msgspec.structs.replace(recipe.data, **{name: getattr(weights.data, name) for name in OF_THE_WEIGHTS})
    adopted = msgspec.structs.replace(recipe, model=weights.model, data=data)
    given = [f"{path}={value}" for path, value in read_overrides(words).settings if _is_about_weights(path)]
    return override(adopted, given, f"of {weights.name}") if given else adopted


def _is_about_weights(path: str) -> bool:
    return path.startswith("model.") or path.removeprefix("data.") in OF_THE_WEIGHTS
