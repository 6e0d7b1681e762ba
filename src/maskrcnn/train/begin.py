"""A run that begins with the weights of another: what fits is kept, and classes are known by their names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maskrcnn.structures import BACKGROUND
from maskrcnn.weights import Weights

ROWS = {"box_head.classes": (1, True), "box_head.deltas": (4, False), "mask_head.masks": (1, False)}
"""Layers with something for each class: rows of one, and whether the background comes before them."""
HEADS = ("rpn.", "box_head.", "mask_head.")


@torch.no_grad()
def begin_with(model: nn.Module, weights: Weights, classes: Sequence[str]) -> str:
    """Fill a model whose classes may be others; returns a sentence that says what was kept and what starts afresh.

    classes   names in the model's label order
    Raises ValueError where the backbone or the pyramid does not fit: a head alone would learn from noise.
    """
    old = weights.recipe.classes
    kept = {name: old.index(name) for name in classes if name in old}
    afresh = []
    for name, tensor in model.state_dict().items():
        theirs = weights.tensors.get(name)
        layer = name.rpartition(".")[0]
        if theirs is not None and layer in ROWS and _has_rows_for(theirs, layer, len(old)) and tuple(classes) != old:
            _copy_rows(tensor, theirs, layer, {classes.index(name): row for name, row in kept.items()})
        elif theirs is not None and theirs.shape == tensor.shape:
            tensor.copy_(theirs)
        elif name.startswith(HEADS):
            afresh.append(layer)
        else:
            raise ValueError(f"the weights {weights.origin} do not fit: {_difference(name, tensor, theirs)}; {REMEDY}")
    return _sentence(weights, classes, list(kept), list(dict.fromkeys(afresh)))


REMEDY = "leave out the settings under `model` that change their network"


def _has_rows_for(tensor: Tensor, layer: str, num_classes: int) -> bool:
    rows, has_background = ROWS[layer]
    return len(tensor) == rows * (num_classes + has_background)


def _copy_rows(tensor: Tensor, theirs: Tensor, layer: str, label_of: dict[int, int]) -> None:
    """Rows of each class that both know, by their places among the classes, and those of the background."""
    rows, has_background = ROWS[layer]
    if has_background:
        tensor[BACKGROUND] = theirs[BACKGROUND]
    for ours, old in label_of.items():
        to, source = (rows * (place + has_background) for place in (ours, old))
        tensor[to : to + rows] = theirs[source : source + rows]


def _difference(name: str, tensor: Tensor, theirs: Tensor | None) -> str:
    received = "nothing" if theirs is None else tuple(theirs.shape)
    return f"{name} is {tuple(tensor.shape)} here and {received} there"


def _sentence(weights: Weights, classes: Sequence[str], kept: list[str], afresh: list[str]) -> str:
    new = [name for name in classes if name not in kept]
    parts = [f"begins with {weights.origin}, whose network and way to see pixels take the place of the recipe's"]
    if new:
        parts.append(f"{len(kept)} classes are kept by name ({_some(kept)}), {len(new)} are new ({_some(new)})")
    elif tuple(classes) != weights.recipe.classes:
        parts.append(f"all {len(classes)} classes are kept by name")
    if afresh:
        parts.append(f"does not fit and starts afresh: {_some(afresh)}")
    return "; ".join(parts)


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"
