"""Tensors from files of every make: what a file is, its first bytes tell. Nothing that a file names is ever run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskrcnn.convert.mindspore_file import read_ckpt
from maskrcnn.convert.pickles import read_pickle

SUFFIXES = (".pth", ".pt", ".pkl", ".ckpt", ".safetensors")
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
INSIDE = ("state_dict", "model", "model_ema", "blobs")
"""Where checkpoints that hold more than weights keep them."""


class Content(NamedTuple):
    """What a file of weights holds."""

    tensors: dict[str, Tensor]
    hint: str
    """Its name, and the configuration that it carries if any: they may say what shapes cannot."""
    classes: tuple[str, ...] = ()
    """Names in label order, where the file has them, as MMDetection's do."""


def read_file(path: str | Path) -> Content:
    """The named tensors of a .safetensors, .pth, .pkl or .ckpt file.

    Raises FileNotFoundError where there is none, and ValueError where it holds no tensors, or code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (working directory {Path.cwd()}); expected {', '.join(SUFFIXES)}")
    content = _read(path)
    tensors = dict(_named_tensors(content))
    if not tensors:
        raise ValueError(f"{path} holds no named tensors; expected the weights of a network")
    meta = content["meta"] if isinstance(content.get("meta"), Mapping) else {}
    return Content(tensors, f"{path.stem} {_config(meta)}".strip(), _classes(meta))


def _read(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(4)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a complete safetensors file ({error}); copy it again") from error
    if start == ZIP or (start[:1] == PICKLE and path.suffix != ".pkl"):
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=start == ZIP)
        except Exception as error:  # torch raises half a dozen kinds here; none of them has run foreign code
            raise ValueError(f"{path} is not a file of plain tensors: {str(error).splitlines()[0]}") from error
    return read_ckpt(path) if path.suffix == ".ckpt" else read_pickle(path)


def _named_tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Of a flat table, or of the table that a checkpoint keeps its weights in."""
    if not isinstance(content, Mapping):
        return
    inner = next((content[name] for name in INSIDE if isinstance(content.get(name), Mapping)), content)
    for name, value in inner.items():
        if isinstance(value, Tensor):
            yield str(name).removeprefix("module."), value
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield str(name), torch.from_numpy(value)


def _config(meta: Mapping[str, Any]) -> str:
    """The text in which MMDetection's checkpoints carry their configuration."""
    return next((meta[name] for name in ("config", "cfg") if isinstance(meta.get(name), str)), "")


def _classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that MMDetection's checkpoints carry, of version 2 or 3."""
    dataset = meta["dataset_meta"] if isinstance(meta.get("dataset_meta"), Mapping) else {}
    names = meta.get("CLASSES") or dataset.get("CLASSES") or dataset.get("classes") or ()
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    return tuple(map(str, names)) if is_list else ()
