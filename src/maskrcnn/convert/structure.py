"""The network that the names and shapes of a checkpoint describe, for every framework."""

import math
from collections.abc import Callable, Mapping
from itertools import count, takewhile
from typing import NamedTuple, get_args

from torch import Tensor

from maskrcnn.config import RPN, Backbone, BackboneKind, BoxHead, MaskHead, Model, Neck

BLOCKS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}
"""Depth by the number of blocks in res4, and whether they are bottlenecks."""
SIDES = {
    "backbone.stem.weight": 4,
    "backbone.res2.0.conv2.weight": 4,
    "neck.lateral.0.weight": 4,
    "box_head.fcs.0.weight": 2,
    "box_head.classes.weight": 2,
    "box_head.classes.bias": 1,
    "box_head.deltas.weight": 2,
    "box_head.deltas.bias": 1,
    "mask_head.upsample.bias": 1,
    "mask_head.masks.weight": 4,
    "mask_head.masks.bias": 1,
}
"""Number of dimensions of the tensors that decide the structure, or whose rows move before shapes are compared."""
BACKBONES = get_args(BackboneKind)


class Structure(NamedTuple):
    """Sizes, numbers of layers and norms of a network. Conventions are left at their defaults."""

    model: Model
    num_classes: int
    """Number of classes without background."""


class _Tensors(NamedTuple):
    """Tensors of a checkpoint, looked up by our names."""

    state: Mapping[str, Tensor]
    theirs: Callable[[str], str]

    def has(self, name: str) -> bool:
        """Tell whether the checkpoint has a tensor."""
        return self.theirs(name) in self.state

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a required tensor's shape. Raises ValueError unless it has the dimensions of `SIDES`, none 0."""
        if not self.has(name):
            raise ValueError(f"expected a Mask R-CNN with a feature pyramid, but there is no {self.theirs(name)}")
        found = tuple(self.state[self.theirs(name)].shape)
        if len(found) != SIDES[name] or 0 in found:
            received = " x ".join(map(str, found)) or "a scalar"
            dimensions = f"{SIDES[name]} dimension{'s' if SIDES[name] > 1 else ''}"
            raise ValueError(f"expected {self.theirs(name)} of {dimensions}, none of them 0, received {received}")
        return found

    def num_layers(self, pattern: str) -> int:
        """Count the layers of a pattern, whose names are numbered from 0."""
        return sum(1 for _ in takewhile(lambda i: self.has(pattern.format(i)), count()))

    def norm(self, layer: str) -> str:
        """Return the norm of a layer; batch norm counts as frozen."""
        if self.has(f"{layer}.norm.running_mean"):
            return "frozen_batch_norm"
        return "group_norm" if self.has(f"{layer}.norm.weight") else "none"


def structure_of(state: Mapping[str, Tensor], theirs: Callable[[str], str], background_everywhere: bool) -> Structure:
    """Derive the structure of a Mask R-CNN from its tensors.

    theirs                  converts our name of a tensor to the name it has in `state`
    background_everywhere   whether box deltas and masks have a row for the background
    Batch norm counts as frozen.
    Raises ValueError where a tensor that every Mask R-CNN has is missing, of another number of dimensions, or empty.
    """
    tensors = _Tensors(state, theirs)
    shape, num_layers = tensors.shape, tensors.num_layers
    for name in SIDES:
        shape(name)
    background = int(background_everywhere)
    num_classes = shape("box_head.classes.bias")[0] - 1
    if not num_classes:
        raise ValueError(f"expected a class beside the background, but {theirs('box_head.classes.bias')} has one row")
    hidden, flat = shape("box_head.fcs.0.weight")
    channels = shape("neck.lateral.0.weight")[0]
    mask_rows = shape("mask_head.masks.bias")[0] - background
    backbone_norm, head_norm = tensors.norm("backbone.stem"), tensors.norm("neck.lateral.0")
    model = Model(
        backbone=Backbone(
            kind=_backbone(tensors),  # type: ignore[arg-type]
            norm=backbone_norm if backbone_norm != "none" else "frozen_batch_norm",  # type: ignore[arg-type]
            width=shape("backbone.stem.weight")[0],
        ),
        neck=Neck(channels=channels),
        head_norm=head_norm,  # type: ignore[arg-type]
        rpn=RPN(num_convs=num_layers("rpn.convs.{}.weight")),
        box_head=BoxHead(
            pool_size=math.isqrt(flat // channels),
            num_convs=num_layers("box_head.convs.{}.weight"),
            num_fcs=num_layers("box_head.fcs.{}.weight"),
            hidden=hidden,
            class_agnostic=shape("box_head.deltas.bias")[0] == 4 * (1 + background) < 4 * (num_classes + background),
        ),
        mask_head=MaskHead(
            num_convs=num_layers("mask_head.convs.{}.weight"),
            channels=shape("mask_head.upsample.bias")[0],
            class_agnostic=mask_rows == 1 < num_classes,
        ),
    )
    return Structure(model, num_classes)


def _backbone(tensors: _Tensors) -> str:
    inner, group = tensors.shape("backbone.res2.0.conv2.weight")[:2]
    num_blocks = tensors.num_layers("backbone.res4.{}.conv1.weight")
    name = f"resnet{BLOCKS.get((num_blocks, tensors.has('backbone.res2.0.conv3.weight')), 0)}"
    if inner != group:
        name = f"{name.replace('resnet', 'resnext')}_{inner // group}x{group}d"
    if name not in BACKBONES:
        raise ValueError(
            f"expected a backbone of {', '.join(BACKBONES)}, received {num_blocks} blocks in res4 ({name})"
        )
    return name
