"""A recipe that uses weights which bring a recipe of their own."""

from collections.abc import Sequence

import msgspec

from maskrcnn.config import Recipe
from maskrcnn.recipes import text
from maskrcnn.recipes.check import build
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.read import Layer, read_overrides

OF_THE_WEIGHTS = ("data.mean", "data.std", "data.rounding", "data.antialias", "data.whole_levels")
"""Settings outside `model` that weights were made with."""
OF_TRAINING = (
    "model.pretrained",
    "model.frozen_stages",
    "model.smooth_l1_beta",
    "model.rpn.samples",
    "model.rpn.positive_fraction",
    "model.rpn.positive_iou",
    "model.rpn.negative_iou",
    "model.rpn.train_candidates",
    "model.rpn.train_proposals",
    "model.box_head.rois",
    "model.box_head.positive_fraction",
    "model.box_head.positive_iou",
    "model.mask_head.rois",
)
"""Settings inside it that only say how to learn: no prediction depends on them."""
OF_CHOICE = (
    "model.rpn.test_candidates",
    "model.rpn.test_proposals",
    "model.rpn.nms_iou",
    "model.box_head.score",
    "model.box_head.nms_iou",
    "model.box_head.candidates",
    "model.box_head.detections",
)
"""Settings inside it that say how many of the boxes to keep: a matter of the data rather than of the weights."""


def from_text(content: str, origin: str) -> Recipe:
    """The recipe that `write_recipe` wrote; ValueError where it is none."""
    settings = text.parse(content)
    if not isinstance(settings, dict):
        raise ValueError(f"{origin}: expected settings, received {type(settings).__name__}")
    return build([Layer(origin, list(settings.items()))], origin)


def override(recipe: Recipe, words: Sequence[str], title: str) -> Recipe:
    """The recipe with some settings replaced, as a command line replaces those of a file."""
    return build([_all(recipe, title), read_overrides(words)], title)


def with_network_of(recipe: Recipe, weights: Recipe, words: Sequence[str] = ()) -> Recipe:
    """The recipe with the network of some weights, and pixels prepared as for them. How it learns and how many boxes it
    keeps stay as they were.

    words   a command line, whose settings win where they say something about that
    """
    theirs = dict(flatten(msgspec.to_builtins(weights)))
    adopted = [(path, value) for path, value in theirs.items() if _belongs_to_weights(path)]
    given = [(path, value) for path, value in read_overrides(words).settings if _is_about_weights(path)]
    title = f"of {weights.name}"
    return build([_all(recipe, recipe.name), Layer(title, adopted), Layer("command line", given)], title)


def _all(recipe: Recipe, origin: str) -> Layer:
    return Layer(origin, list(msgspec.to_builtins(recipe).items()))


def _belongs_to_weights(path: str) -> bool:
    return path in OF_THE_WEIGHTS or (path.startswith("model.") and path not in (*OF_TRAINING, *OF_CHOICE))


def _is_about_weights(path: str) -> bool:
    """Whether a word of the command line is: it may name a whole section."""
    return path in OF_THE_WEIGHTS or path.partition(".")[0] == "model"
