"""ImageNet weights for the backbone: torchvision's published files and their names for things."""

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from maskrcnn import config

PUBLISHED = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
}
"""File names carry the first eight digits of their SHA-256. Trained with the stride in the 3 x 3 convolution."""
ADDRESS = "https://download.pytorch.org/models/"

RENAMES = (
    (r"^conv1\.", "stem."),
    (r"^bn1\.", "stem.norm."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)


def cache_folder() -> Path:
    """Where downloaded weights are kept: $MASKRCNN_CACHE, or `maskrcnn` in the user's cache folder."""
    root = os.environ.get("MASKRCNN_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "maskrcnn"


def load_backbone(backbone: nn.Module, settings: config.Model, say: Callable[[str], None] = print) -> None:
    """Fill the backbone as `model.pretrained` says: `imagenet`, a file (.pth or .safetensors), or nothing.

    Raises FileNotFoundError where a file can be had neither from disk nor from the network, and ValueError
    where its tensors don't fit; both say what to do.
    """
    if not settings.pretrained:
        return
    if settings.pretrained == "imagenet":
        if settings.norm != "frozen_batch_norm":
            raise ValueError(
                f"model.pretrained: the published ImageNet weights of {settings.backbone} have batch norm but "
                f"model.norm is {settings.norm}; set model.norm=frozen_batch_norm, or model.pretrained='' to start anew"
            )
        path = published_file(settings.backbone, say)
    else:
        path = Path(settings.pretrained).expanduser()
    fill(backbone, read_tensors(path), path)
    say(f"backbone: {settings.backbone} weights from {path}")


def published_file(name: str, say: Callable[[str], None]) -> Path:
    """The published file of a backbone, from the cache or downloaded into it and checked."""
    file = PUBLISHED[name]
    path = cache_folder() / file
    if path.exists():
        _check(path, file)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    say(f"downloading {ADDRESS}{file} to {path}")
    try:
        with urllib.request.urlopen(ADDRESS + file, timeout=30) as answer, partial.open("wb") as out:
            while block := answer.read(1 << 20):
                out.write(block)
        _check(partial, file)
        partial.replace(path)
    except (urllib.error.URLError, OSError) as error:
        raise FileNotFoundError(
            f"model.pretrained=imagenet needs {file}, which could not be downloaded ({error}). Bring {ADDRESS}{file} "
            f"by other means and put it at {path}, name another file with model.pretrained=PATH, or start from random "
            "weights with model.pretrained='' model.norm=group_norm model.frozen_stages=0"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a .pth file that holds nothing but tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"model.pretrained: no file {path}; give the path of a .pth or .safetensors file")
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds here; none of them has run foreign code
        raise ValueError(f"{path} is not a file of plain tensors: {str(error).splitlines()[0]}") from error
    return state.get("state_dict", state)


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names of a ResNet's tensors to ours; the classifier and batch counters are left out."""
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def fill(backbone: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load torchvision's or our own names into the backbone; every tensor must be there and fit."""
    if not any(name.startswith("res2.") for name in state):
        state = rename(state)
    own = backbone.state_dict()
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    shapes = [
        f"{n} {tuple(state[n].shape)} for {tuple(own[n].shape)}"
        for n in own
        if n in state and own[n].shape != state[n].shape
    ]
    for words, names in (("lacks", missing), ("has, beyond the backbone,", extra), ("has other shapes:", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(
                f"{path} does not fit the backbone: it {words} {', '.join(names[:3])}{more}; "
                "check model.backbone, model.width and model.norm"
            )
    backbone.load_state_dict(state)


def _check(path: Path, file: str) -> None:
    wanted = file.rsplit("-", 1)[1].removesuffix(".pth")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(wanted):
        raise ValueError(
            f"{path} is damaged: its SHA-256 starts with {found[:8]}, expected {wanted}; delete it and try again"
        )
