"""A run that begins with the weights of another: what fits is kept, and classes are known by their names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maskrcnn.recipes.adopt import other_bands
from maskrcnn.sentences import counted, some_of
from maskrcnn.structures import BACKGROUND
from maskrcnn.weights import Weights

ROWS = {"box_head.classes": (1, True), "box_head.deltas": (4, False), "mask_head.masks": (1, False)}
"""Layers with something for each class: rows of one, and whether the background comes before them."""
HEADS = ("rpn.", "box_head.", "mask_head.", "point_head.")


@torch.no_grad()
def initialise_from(model: nn.Module, weights: Weights, classes: Sequence[str]) -> str:
    """Fill a model whose classes may be others; returns a sentence that says what was kept and what starts afresh.

    classes   names in the model's label order
    Raises ValueError where the backbone or the pyramid does not fit: a head alone would learn from noise.
    """
    old = weights.recipe.classes
    kept = _same_names(classes, old)
    afresh = []
    for name, tensor in model.state_dict().items():
        theirs, layer = weights.tensors.get(name), name.rpartition(".")[0]
        if theirs is not None and _is_by_class(tensor, theirs, layer, len(classes), len(old)):
            _copy_rows(tensor, theirs, layer, kept)
        elif theirs is not None and theirs.shape == tensor.shape:
            tensor.copy_(theirs)
        elif theirs is None and name.endswith("num_batches_tracked"):
            continue  # frozen norms have none
        elif name.startswith(HEADS):
            afresh.append(layer)
        else:
            raise ValueError(f"the weights {weights.origin} do not fit: {_difference(name, tensor, theirs)}")
    return _sentence(weights, classes, [classes[index] for index in kept], list(dict.fromkeys(afresh)))


REMEDY = "leave out the settings under `model` that change their network"


def _same_names(classes: Sequence[str], old: Sequence[str]) -> dict[int, int]:
    """Index of a class here to its index there; of a name that repeats the first meets the first, and so on."""
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(old):
        indices.setdefault(name, []).append(index)
    return {index: indices[name].pop(0) for index, name in enumerate(classes) if indices.get(name)}


def _is_by_class(tensor: Tensor, theirs: Tensor, layer: str, num_classes: int, num_old: int) -> bool:
    """Whether both have something for each of their classes, of one kind."""
    rows, has_background = ROWS.get(layer, (0, False))
    lengths = rows * (num_classes + has_background), rows * (num_old + has_background)
    return rows > 0 and (len(tensor), len(theirs)) == lengths and tensor.shape[1:] == theirs.shape[1:]


def _copy_rows(tensor: Tensor, theirs: Tensor, layer: str, kept: dict[int, int]) -> None:
    """Rows of each class that both know, by their indices among the classes, and those of the background."""
    rows, has_background = ROWS[layer]
    if has_background:
        tensor[BACKGROUND] = theirs[BACKGROUND]
    for ours, old in kept.items():
        to, source = (rows * (index + has_background) for index in (ours, old))
        tensor[to : to + rows] = theirs[source : source + rows]


def _difference(name: str, tensor: Tensor, theirs: Tensor | None) -> str:
    if theirs is not None and name.startswith("backbone.stem") and _differ_in_bands(tensor, theirs):
        return "they were " + other_bands(theirs.shape[1], tensor.shape[1])
    received = "nothing" if theirs is None else tuple(theirs.shape)
    return f"{name} is {tuple(tensor.shape)} here and {received} there; {REMEDY}"


def _differ_in_bands(tensor: Tensor, theirs: Tensor) -> bool:
    """Whether two convolutions differ in nothing but how many bands they read."""
    (outputs, _, *kernel), (their_outputs, _, *their_kernel) = tensor.shape, theirs.shape
    return (outputs, kernel) == (their_outputs, their_kernel)


def _sentence(weights: Weights, classes: Sequence[str], kept: list[str], afresh: list[str]) -> str:
    new = [name for name in classes if name not in kept]
    parts = [f"initialised from {weights.origin}; its network and preprocessing replace the recipe's"]
    if new:
        parts.append(
            f"{counted(len(kept), 'classes are kept by name')} ({some_of(kept)}), {len(new)} new ({some_of(new)})"
        )
    elif tuple(classes) != weights.recipe.classes:
        parts.append(f"all {len(classes)} classes are kept by name")
    if afresh:
        parts.append(f"does not fit and starts afresh: {some_of(afresh)}")
    return "; ".join(parts)
