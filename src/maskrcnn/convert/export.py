"""Our weights as a file that another system reads."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file

from maskrcnn.config import Recipe
from maskrcnn.convert.checkpoint import MAKERS
from maskrcnn.convert.detectron2_config import ALWAYS, CANNOT, config_of
from maskrcnn.convert.maker import write
from maskrcnn.convert.mindspore_file import write_ckpt
from maskrcnn.recipes.adopt import OF_TRAINING
from maskrcnn.recipes.flat import flatten
from maskrcnn.weights import Weights, sync

SUFFIXES = {"torchvision": (".pth", ".safetensors"), "detectron2": (".pth",), "mindspore": (".ckpt",)}
NOT_COMPARED = (
    "name",
    "device",
    "classes",
    "category_ids",
    "train",
    "evaluate",
    "data",
    "model.norm",
    "model.head_norm",
)
"""Settings that change nothing in a prediction, and norms, of which a live one predicts as a frozen one does."""
PREPROCESSING = tuple(
    f"data.{name}" for name in ("mean", "std", "short_sides", "max_side", "rounding", "antialias", "whole_levels")
)


def export(weights: Weights, to: str, path: Path) -> Iterator[str]:
    """Write a file for torchvision, Detectron2 (with its configuration beside it) or MindSpore; tells what was done.

    Raises ValueError for an ending that the other system does not read, and for a network that it does not have.
    """
    if path.suffix not in SUFFIXES[to]:
        raise ValueError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES[to])} for {to}")
    if weights.recipe.model.norm == "group_norm" and to != "detectron2":
        raise ValueError(f"{to} has no Mask R-CNN with model.norm=group_norm; export to detectron2")
    maker = MAKERS[to]
    state = {name: tensor.contiguous() for name, tensor in write(maker, weights.tensors).items()}
    theirs = maker.describe(maker.modernise(state), "").recipe
    config = ""
    if to == "detectron2":
        config = config_of(weights.recipe, path)
        data = weights.recipe.data
        state |= {
            "pixel_mean": torch.tensor(data.mean)[:, None, None],
            "pixel_std": torch.tensor(data.std)[:, None, None],
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, WRITERS[path.suffix], {"model": state} if config else state)
    size = sum(tensor.numel() for tensor in state.values()) / 1e6
    yield f"written to {path}: {len(state)} tensors, {size:.1f} million numbers"
    if config:
        beside = path.with_suffix(".yaml")
        _replace(beside, lambda text, draft: draft.write_text(text, encoding="utf-8"), config)
        yield f"its configuration: {beside}"
    differences = [f"  {one}" for one in _differences(weights.recipe, ALWAYS if config else theirs)]
    differences = [one for one in differences if not config or one.split()[0].rstrip(":") in CANNOT]
    if differences:
        yield f"{to} has no settings for some of what these weights were made with, so results will differ a little:"
        yield from differences


def _differences(ours: Recipe, theirs: Recipe) -> Iterator[str]:
    """Settings that would have to agree for the same results."""
    other = dict(flatten(msgspec.to_builtins(theirs)))
    for key, value in flatten(msgspec.to_builtins(ours)):
        compared = key in PREPROCESSING or not key.startswith(NOT_COMPARED)
        if compared and key not in OF_TRAINING and value != other[key]:
            yield f"{key}: {value} here, {other[key]} there"


def _replace(path: Path, writer: Callable[[Any, Path], object], content: Any) -> None:
    """Write beside the path, then take its place: nothing half-written bears its name."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        writer(content, draft)
        draft.chmod(0o644)
        sync(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    ".pth": lambda state, path: torch.save(state, path),
    ".safetensors": lambda state, path: save_file(state, path),
    ".ckpt": lambda state, path: write_ckpt(path, state),
}
