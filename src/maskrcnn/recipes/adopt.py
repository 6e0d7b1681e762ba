"""Recipes combined with the recipe that weights bring along."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from maskrcnn.config import Recipe, Role
from maskrcnn.recipes import text
from maskrcnn.recipes.check import build
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.read import Layer, read_overrides
from maskrcnn.recipes.roles import settings_with

OF_THE_WEIGHTS = settings_with(Role.NETWORK, Role.NORM, Role.CONVENTION)
"""Settings that weights were made with."""
LIVE_NORMS = ("batch_norm", "sync_batch_norm")
TRAINED_NORMS = (*LIVE_NORMS, "fixed_batch_norm")
"""Kinds of batch norm that training changes."""


def from_text(content: str, origin: str) -> Recipe:
    """Parse the text of a recipe that `write_recipe` wrote. Raises ValueError where it is not one."""
    settings = text.parse(content)
    if not isinstance(settings, dict):
        raise ValueError(f"{origin}: expected settings, received {type(settings).__name__}")
    return build([Layer(origin, list(settings.items()))], origin)


def override(recipe: Recipe, words: Sequence[str], title: str) -> Recipe:
    """Replace some settings of a recipe, as a command line replaces those of a file."""
    return build([_all(recipe, title), read_overrides(words)], title)


def with_settings(recipe: Recipe, settings: Mapping[str, Any], title: str) -> Recipe:
    """Replace some settings of a recipe, given by their dotted paths."""
    return build([_all(recipe, title), Layer(title, list(settings.items()))], title)


def with_network_of(recipe: Recipe, weights: Recipe, words: Sequence[str] = ()) -> Recipe:
    """Return the recipe with the network and preprocessing of some weights.

    Settings for learning and for the number of boxes stay as they were.
    words   a command line, whose settings of the network or its preprocessing win over the weights'
    """
    theirs = dict(flatten(msgspec.to_builtins(weights)))
    adopted = [(path, value) for path, value in theirs.items() if path in OF_THE_WEIGHTS]
    given = [(path, value) for path, value in read_overrides(words).settings if _is_about_weights(path)]
    title = f"of {weights.name}"
    return build([_all(recipe, recipe.name), Layer(title, adopted), Layer("command line", given)], title)


def refuse_other_levels(plan: Recipe, adopted: Recipe) -> None:
    """Raise ValueError where a plan found a range in the images, and the weights' levels would leave it nearly black.

    adopted   the plan with the preprocessing of the weights, as `with_network_of` gives it
    """
    ours, theirs = plan.data, adopted.data
    if ours.levels == "fixed" and theirs.levels == "full":
        pairs = [list(pair) for pair in ours.level_range]
        raise ValueError(
            f"the weights were trained with data.levels=full, but the images' numbers need data.levels=fixed "
            f"data.level_range={pairs}; give both settings, and the images become as bright as the weights expect"
        )


def with_live_norm(weights: Recipe, recipe: Recipe) -> Recipe:
    """Return the recipe of weights, with the kind of batch norm that `recipe` trains, where it trains one.

    All kinds have the same tensors, so that training goes on from the statistics of the weights.
    """
    ours, model = recipe.model.backbone.norm, weights.model
    if ours not in TRAINED_NORMS or model.backbone.norm not in ("frozen_batch_norm", *TRAINED_NORMS):
        return weights
    given = model.backbone.norm in ("frozen_batch_norm", "fixed_batch_norm")
    heads = model.head_norm or ("none" if given else model.backbone.norm)
    heads = ours if {ours, heads} <= set(LIVE_NORMS) else heads
    return replace(weights, model=replace(model, backbone=replace(model.backbone, norm=ours), head_norm=heads))


def _all(recipe: Recipe, origin: str) -> Layer:
    return Layer(origin, list(msgspec.to_builtins(recipe).items()))


def _is_about_weights(path: str) -> bool:
    """Tell whether a setting or section of the command line belongs to the weights."""
    return path in OF_THE_WEIGHTS or path.partition(".")[0] == "model"
