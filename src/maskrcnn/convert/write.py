"""Our weights as files that other systems read."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from maskrcnn.config import Recipe, Role
from maskrcnn.convert.checkpoint import FRAMEWORKS
from maskrcnn.convert.detectron2_config import ALWAYS, CANNOT, config_of
from maskrcnn.convert.files import OWN_RECIPE
from maskrcnn.convert.framework import Framework, write
from maskrcnn.convert.mindspore_file import write_ckpt
from maskrcnn.files import atomic_write
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.roles import settings_with
from maskrcnn.recipes.write import to_text
from maskrcnn.weights import Weights, write_tensors

SUFFIXES = {"torchvision": (".pth", ".safetensors"), "detectron2": (".pth",), "mindspore": (".ckpt",)}
COMPARED = settings_with(Role.NETWORK, Role.CONVENTION, Role.SIZE, Role.SELECTION)
"""Settings that a prediction depends on; live and frozen batch norm predict the same."""
NETWORK = settings_with(Role.NETWORK)
"""Settings that define the network."""
BATCH_NORMS = ["frozen_batch_norm", "fixed_batch_norm", "batch_norm", "sync_batch_norm"]
NOWHERE: dict[str, list[Any]] = {"model.point_head.enabled": [False]}
"""Values of settings to which the networks of all other systems are limited."""
BUILT: dict[str, dict[str, list[Any]]] = {
    "torchvision": {
        **NOWHERE,
        "model.backbone.norm": BATCH_NORMS,
        "model.head_norm": [*BATCH_NORMS, "none", ""],
        "model.backbone.width": [64],
        "model.rpn.aspect_ratios": [[0.5, 1.0, 2.0]],
        "model.box_head.class_agnostic": [False],
        "model.mask_head.class_agnostic": [False],
    },
    "mindspore": {
        **NOWHERE,
        "model.backbone.norm": BATCH_NORMS,
        "model.head_norm": ["none", ""],
        "model.backbone.width": [64],
        "model.rpn.aspect_ratios": [[0.5, 1.0, 2.0]],
        "model.rpn.num_convs": [1],
        "model.box_head.num_convs": [0],
        "model.box_head.num_fcs": [2],
        "model.box_head.class_agnostic": [False],
        "model.mask_head.num_convs": [4],
        "model.mask_head.class_agnostic": [False],
    },
    "detectron2": NOWHERE,
}
"""Values of settings to which a system's networks are limited."""


def export(weights: Weights, to: str, path: Path) -> Iterator[str]:
    """Write a file for torchvision, Detectron2 (with its configuration beside it) or MindSpore; yield what was done.

    Raises ValueError for a file ending that the other system does not read, and for a network that it does not have.
    """
    if path.suffix not in SUFFIXES[to]:
        raise ValueError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES[to])} for {to}")
    framework, recipe = FRAMEWORKS[to], weights.recipe
    _expect_built(recipe, to)
    state = {name: tensor.contiguous() for name, tensor in write(framework, weights.tensors).items()}
    size = sum(tensor.numel() for tensor in state.values()) / 1e6
    told = f"written to {path}: {len(state)} tensors, {size:.1f} million numbers"
    if to == "detectron2":
        config = config_of(recipe, path)
        _replace(path, WRITERS[path.suffix], {"model": state, "meta": {OWN_RECIPE: to_text(recipe)}})
        _replace(path.with_suffix(".yaml"), lambda text, draft: draft.write_text(text, encoding="utf-8"), config)
        yield f"{told}; its configuration: {path.with_suffix('.yaml')}"
        differences = [one for one in _differences(recipe, ALWAYS) if one[0] in CANNOT]
    else:
        differences = list(_differences(recipe, _described(framework, state, recipe)))
        _replace(path, WRITERS[path.suffix], state)
        yield told
    if differences:
        yield f"{to} does not read these from the file; set them there where it has them, or results will differ:"
        yield from (f"  {key}: {ours} here, {theirs} there" for key, ours, theirs in differences)


def _expect_built(recipe: Recipe, to: str) -> None:
    """Raise ValueError where the other system has no such network."""
    backbone = recipe.model.backbone
    if backbone.is_efficientnet:
        raise ValueError(
            f"{to} has no Mask R-CNN with model.backbone.kind={backbone.kind}, expected a ResNet or ResNeXt"
        )
    settings = dict(flatten(msgspec.to_builtins(recipe)))
    for key, values in BUILT[to].items():
        if settings[key] not in values:
            others = " or ".join(map(str, values))
            remedy = "" if key in NOWHERE else "; export to detectron2, which has more"
            raise ValueError(f"{to} has no Mask R-CNN with {key}={settings[key]}, expected {others}{remedy}")


def _described(framework: Framework, state: Mapping[str, Tensor], recipe: Recipe) -> Recipe:
    """Derive the recipe that the other system sees in a file. Raises ValueError where that is another network."""
    theirs = framework.describe(framework.modernise(state), "").recipe
    for key, here, there in _differences(recipe, theirs):
        if key in NETWORK:
            raise ValueError(f"{framework.name} has no Mask R-CNN with {key}={here}, it would read the file as {there}")
    return theirs


def _differences(ours: Recipe, theirs: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ and change results: name, here, there."""
    other = dict(flatten(msgspec.to_builtins(theirs)))
    for key, value in flatten(msgspec.to_builtins(ours)):
        if key in COMPARED and value != other[key]:
            yield key, value, other[key]


def _replace(path: Path, writer: Callable[[Any, Path], object], content: Any) -> None:
    """Write beside the path, then rename: no incomplete file ever has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, synced=True) as draft:
        writer(content, draft)
        draft.chmod(0o644)


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    ".pth": lambda state, path: torch.save(state, path),
    ".safetensors": lambda state, path: write_tensors(path, state),
    ".ckpt": lambda state, path: write_ckpt(path, state),
}
