"""What one maker's checkpoint and ours have in common, and the one way through it in both directions.

A maker's file (`torchvision.py`, `detectron2.py`, ...) holds a `Framework`: a table of names and a description of
conventions. Nothing here or there knows how a file is stored; see `files.py`.
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
"""A regular expression and what takes the place of its matches."""


class Described(NamedTuple):
    """What a checkpoint's names and shapes speak of."""

    recipe: Recipe
    """With the maker's conventions and the classes."""
    bgr: bool = False
    """The stem expects blue, green, red."""


@dataclass(frozen=True)
class Framework:
    """How one maker names and arranges the tensors of a Mask R-CNN."""

    name: str
    rules: tuple[Rule, ...]
    """Our name of a tensor to theirs, by `re.sub` in this order. The same table serves both directions."""
    describe: Callable[[State, str], Described]
    """Of tensors and a hint, the name they were published under or their file's, which may say what shapes cannot.
    Raises ValueError for a network that cannot be read."""
    mark: str
    """Matches a name in each of their checkpoints, and none in other makers'."""
    others: tuple[tuple[str, str], ...] = ()
    """(pattern, words) of names in their networks that are no Mask R-CNN with a feature pyramid on a ResNet, and what
    those are; the first that applies is said."""
    idle: str = r"^$"
    """Matches their tensors that hold no weights."""
    background_last: bool = True
    """Where the row of the background is among the classes; ours is first."""
    background_everywhere: bool = False
    """Box deltas and masks have a first row for the background too, which nothing reads."""
    modernise: Callable[[State], dict[str, Tensor]] = dict
    """Older spellings of theirs to the one that the rules give."""
    finish: Callable[[State], dict[str, Tensor]] = dict
    """What is written: names that depend on the whole network, where the rules alone do not give them."""

    def recognises(self, state: State) -> bool:
        """Whether these are tensors of this maker."""
        return any(re.search(self.mark, name) for name in state)

    def refuse_others(self, state: State) -> None:
        """Raise ValueError that says what a file is, if it is not our Mask R-CNN."""
        expected = f"expected {self.name}'s Mask R-CNN on a ResNet with a feature pyramid"
        for pattern, words in self.others:
            found = next((name for name in state if re.search(pattern, name)), None)
            if found is not None:
                raise ValueError(f"{expected}, received {words} (it has {found}); choose another checkpoint")
        masks = self.theirs("mask_head.masks.weight")
        if masks not in state:
            raise ValueError(
                f"{expected}, received a network without {masks}, such as Faster R-CNN, which predicts no masks; "
                "choose another checkpoint"
            )

    def theirs(self, name: str) -> str:
        """Their name of one of our tensors."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


def read(
    maker: Framework,
    state: State,
    hint: str = "",
    overrides: Sequence[str] = (),
    channels: Channels = "",
    known: Recipe | None = None,
) -> Weights:
    """Their tensors as ours.

    Halves become float32.
    overrides   settings that replace those of the maker's description
    channels    `rgb` or `bgr`, where the maker's description is not to be trusted
    known       the recipe, red first, of what we wrote ourselves
    Raises ValueError where the network is another one, or tensors are missing, unknown or of another shape.
    """
    state = maker.modernise(state)
    maker.refuse_others(state)
    recipe, bgr = maker.describe(state, hint) if known is None else (known, False)
    recipe = override(recipe, overrides, f"of {maker.name}") if overrides else recipe
    bgr = channels == "bgr" if channels else bgr
    tensors, faults = {}, []
    expected = shapes(recipe.model, len(recipe.classes), len(recipe.data.mean))
    names = {ours: maker.theirs(ours) for ours in expected}
    for ours, theirs in names.items():
        if theirs in state:
            tensors[ours] = _to_ours(maker, ours, state[theirs], bgr)
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
    faults += [f"{name} is unknown" for name in state if name not in names.values() and not re.search(maker.idle, name)]
    if faults:
        named = some_of(faults, 4, separator="; ")
        raise ValueError(f"this is no Mask R-CNN of {maker.name} that can be read: {named}")
    return Weights(tensors, recipe, maker.name)


def write(maker: Framework, tensors: State, bgr: bool = False) -> dict[str, Tensor]:
    """Our tensors as theirs, the inverse of `read`.

    bgr   they feed the network blue, green, red
    """
    return maker.finish({maker.theirs(ours): _to_theirs(maker, ours, tensor, bgr) for ours, tensor in tensors.items()})


def shapes(model: Model, num_classes: int, num_bands: int = 3) -> dict[str, torch.Size]:
    """Of the tensors of our model, by name; costs no memory."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build(model, num_classes, num_bands).state_dict().items()}


def _to_ours(maker: Framework, name: str, tensor: Tensor, bgr: bool) -> Tensor:
    part = name.rpartition(".")[0]
    tensor = tensor.float() if tensor.is_floating_point() else tensor  # some are published in half precision
    if part == "box_head.classes" and maker.background_last:
        return tensor.roll(1, 0)
    if maker.background_everywhere and part in BACKGROUND_ROWS:
        return tensor[BACKGROUND_ROWS[part] :]
    return tensor.flip(1) if bgr and name == STEM else tensor


def _to_theirs(maker: Framework, name: str, tensor: Tensor, bgr: bool) -> Tensor:
    part = name.rpartition(".")[0]
    if part == "box_head.classes" and maker.background_last:
        return tensor.roll(-1, 0)
    if maker.background_everywhere and part in BACKGROUND_ROWS:
        return torch.cat([tensor.new_zeros(BACKGROUND_ROWS[part], *tensor.shape[1:]), tensor])
    return tensor.flip(1) if bgr and name == STEM else tensor


BACKGROUND_ROWS = {"box_head.deltas": 4, "mask_head.masks": 1}
"""Rows of the background, where a maker has them."""
STEM = "backbone.stem.weight"


def _sides(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
