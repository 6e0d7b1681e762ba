"""Conversion between another framework's tensors and ours, in both directions.

`torchvision.py`, `detectron2.py`, ... each hold a `Framework`: a table of names and a description of conventions.
Nothing here or there depends on how a file is stored; see `files.py`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from maskrcnn.config import Model, Recipe
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes.adopt import override
from maskrcnn.sentences import some_of
from maskrcnn.weights import Weights

State = Mapping[str, Tensor]
Channels = Literal["", "rgb", "bgr"]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""Regular expression, and the replacement of its matches."""


class Described(NamedTuple):
    """Recipe and channel order that a checkpoint's names and shapes tell."""

    recipe: Recipe
    """Recipe with the framework's conventions and the classes."""
    bgr: bool = False
    """Whether the stem expects blue, green, red."""


@dataclass(frozen=True)
class Framework:
    """Names and layout of a Mask R-CNN's tensors in one framework."""

    name: str
    rules: tuple[Rule, ...]
    """Substitutions from our names to theirs, by `re.sub` in this order; both directions use them."""
    describe: Callable[[State, str], Described]
    """Describes tensors, with a hint (their published or file name) for what shapes cannot tell.
    Raises ValueError for a network that cannot be read."""
    mark: str
    """Pattern of a name in each of their checkpoints, and in none of another framework."""
    others: tuple[tuple[str, str], ...] = ()
    """(pattern, description) pairs for their networks that are not a Mask R-CNN on a ResNet with a feature pyramid; the
    first match counts."""
    idle: str = r"^$"
    """Pattern of their tensors that are not weights."""
    background_last: bool = True
    """Whether the background's row is the last among the classes; ours is first."""
    background_everywhere: bool = False
    """Whether box deltas and masks have a first row for the background too, which nothing reads."""
    modernise: Callable[[State], dict[str, Tensor]] = dict
    """Converts their older names to those of the rules."""
    finish: Callable[[State], dict[str, Tensor]] = dict
    """Finishes what is written, where names depend on the whole network."""

    def recognises(self, state: State) -> bool:
        """Tell whether these are tensors of this framework."""
        return any(re.search(self.mark, name) for name in state)

    def refuse_others(self, state: State) -> None:
        """Raise ValueError that says what a network is, if it is not our Mask R-CNN."""
        expected = f"expected {self.name}'s Mask R-CNN on a ResNet with a feature pyramid"
        for pattern, description in self.others:
            found = next((name for name in state if re.search(pattern, name)), None)
            if found is not None:
                raise ValueError(f"{expected}, received {description} (it has {found}); choose another checkpoint")
        masks = self.theirs("mask_head.masks.weight")
        if masks not in state:
            raise ValueError(
                f"{expected}, received a network without {masks}, such as Faster R-CNN, which predicts no masks; "
                "choose another checkpoint"
            )

    def theirs(self, name: str) -> str:
        """Convert the name of one of our tensors to theirs."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


def read(
    framework: Framework,
    state: State,
    hint: str = "",
    overrides: Sequence[str] = (),
    channels: Channels = "",
    known: Recipe | None = None,
) -> Weights:
    """Convert their tensors to ours.

    Half precision becomes float32.
    overrides   settings that replace those of the framework's description
    channels    `rgb` or `bgr`, overriding the framework's description
    known       the recipe, with RGB, of a file that we wrote ourselves
    Raises ValueError where the network is another one, or tensors are missing, unknown or of another shape.
    """
    state = framework.modernise(state)
    framework.refuse_others(state)
    recipe, bgr = framework.describe(state, hint) if known is None else (known, False)
    recipe = override(recipe, overrides, f"of {framework.name}") if overrides else recipe
    bgr = channels == "bgr" if channels else bgr
    tensors, faults = {}, []
    expected = shapes(recipe.model, len(recipe.classes), len(recipe.data.mean))
    names = {ours: framework.theirs(ours) for ours in expected}
    for ours, theirs in names.items():
        if theirs in state:
            tensors[ours] = _to_ours(framework, ours, state[theirs], bgr)
            if not state[theirs].is_floating_point() and not ours.endswith("num_batches_tracked"):
                faults.append(f"{theirs} holds {str(state[theirs].dtype).removeprefix('torch.')} for real numbers")
            elif tensors[ours].shape != expected[ours]:
                faults.append(
                    f"{theirs} is {_sides(state[theirs].shape)}, which {ours} of {_sides(expected[ours])} cannot take"
                )
        elif not ours.endswith("num_batches_tracked"):
            faults.append(f"{theirs} is missing")
        else:
            tensors[ours] = torch.zeros((), dtype=torch.int64)
    faults += [
        f"{name} is unknown" for name in state if name not in names.values() and not re.search(framework.idle, name)
    ]
    if faults:
        named = some_of(faults, 4, separator="; ")
        raise ValueError(f"this is not a Mask R-CNN of {framework.name} that can be read: {named}")
    return Weights(tensors, recipe, framework.name)


def write(framework: Framework, tensors: State, bgr: bool = False) -> dict[str, Tensor]:
    """Convert our tensors to theirs, the inverse of `read`.

    bgr   whether they feed the network blue, green, red
    """
    return framework.finish(
        {framework.theirs(ours): _to_theirs(framework, ours, tensor, bgr) for ours, tensor in tensors.items()}
    )


def shapes(model: Model, num_classes: int, num_bands: int = 3) -> dict[str, torch.Size]:
    """Return the shapes of our model's tensors by name, without allocating them."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build(model, num_classes, num_bands).state_dict().items()}


def _to_ours(framework: Framework, name: str, tensor: Tensor, bgr: bool) -> Tensor:
    part = name.rpartition(".")[0]
    tensor = tensor.float() if tensor.is_floating_point() else tensor  # some are published in half precision
    if part == "box_head.classes" and framework.background_last:
        return tensor.roll(1, 0)
    if framework.background_everywhere and part in BACKGROUND_ROWS:
        return tensor[BACKGROUND_ROWS[part] :]
    return tensor.flip(1) if bgr and name == STEM else tensor


def _to_theirs(framework: Framework, name: str, tensor: Tensor, bgr: bool) -> Tensor:
    part = name.rpartition(".")[0]
    if part == "box_head.classes" and framework.background_last:
        return tensor.roll(-1, 0)
    if framework.background_everywhere and part in BACKGROUND_ROWS:
        return torch.cat([tensor.new_zeros(BACKGROUND_ROWS[part], *tensor.shape[1:]), tensor])
    return tensor.flip(1) if bgr and name == STEM else tensor


BACKGROUND_ROWS = {"box_head.deltas": 4, "mask_head.masks": 1}
"""Number of background rows, where a framework has them."""
STEM = "backbone.stem.weight"


def _sides(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
