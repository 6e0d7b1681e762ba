"""Recipes combined with the recipe that weights bring along."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from maskrcnn.config import Data, Recipe, Role
from maskrcnn.recipes import text
from maskrcnn.recipes.check import build
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.read import Layer, read_overrides
from maskrcnn.recipes.roles import settings_with
from maskrcnn.sentences import counted

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


def tiling(side: int) -> dict[str, Any]:
    """Settings that cut images into tiles of so many pixels, whatever they were; 0 leaves images whole.

    >>> tiling(512), tiling(0)
    ({'data.tile': 512}, {'data.tile': 0, 'data.tile_overlap': 0.2, 'data.tile_empty': 1.0})
    """
    default = Data()
    idle = {} if side else {"data.tile_overlap": default.tile_overlap, "data.tile_empty": default.tile_empty}
    return {"data.tile": side, **idle}


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


def refuse_other_pixels(recipe: Recipe, adopted: Recipe, *, seen: bool) -> None:
    """Raise ValueError where a recipe reads the numbers of images clearly otherwise than the weights it begins with.

    adopted   the recipe with the preprocessing of the weights, as `with_network_of` gives it
    seen      whether the recipe was made for images that were looked at; else its defaults say nothing
    """
    ours, theirs, default = recipe.data, adopted.data, Data()
    if ours.mean and theirs.mean and len(ours.mean) != len(theirs.mean) and (seen or ours.mean != default.mean):
        raise ValueError(f"the weights were {other_bands(len(theirs.mean), len(ours.mean))}")
    if _read_alike(ours, theirs) or not (seen or ours.levels != default.levels):
        return
    raise ValueError(
        f"the weights were trained with {_levels(theirs)}, but {'the images need' if seen else 'the recipe has'} "
        f"{_levels(ours)}, by which the same numbers are brighter or darker; give the settings that suit the images: "
        "with the recipe's, they become as bright as the weights expect"
    )


def other_bands(theirs: int, ours: int) -> str:
    """What is said of weights that read another number of bands than a run."""
    return (
        f"trained on images of {counted(theirs, 'bands')}, but these have {ours} (data.mean); begin "
        "without weights, which spreads those of ImageNet over all bands, or give images of as many bands"
    )


def _read_alike(one: Data, other: Data) -> bool:
    """Whether the same numbers become about the same levels."""
    if one.levels != other.levels:
        return False
    if one.levels != "fixed" or not (one.level_range and other.level_range):
        return True
    number = max(len(one.level_range), len(other.level_range))
    return all(map(_overlap, *(ranges * (number // len(ranges)) for ranges in (one.level_range, other.level_range))))


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two ranges have more than half of what they cover together in common."""
    (low, lower), (high, higher) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return high - lower > (higher - low) / 2


def _levels(data: Data) -> str:
    """The settings that decide which levels numbers become, as a person types them."""
    if data.levels == "fixed":
        return f"data.levels=fixed data.level_range={[list(pair) for pair in data.level_range]}"
    return f"data.levels={data.levels}"


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
