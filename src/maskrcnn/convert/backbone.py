"""ImageNet weights for the backbone: published files, and their makers' names for things."""

import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.convert import zoo
from maskrcnn.convert.download import fetch
from maskrcnn.convert.files import read_file

PUBLISHED = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnext50_32x4d": "resnext50_32x4d-7cdf4587.pth",
    "resnext101_32x8d": "resnext101_32x8d-8ba56ff5.pth",
    "resnext101_64x4d": "resnext101_64x4d-173b62eb.pth",
}
"""torchvision's first weights of each; the names carry the first eight digits of their SHA-256.
All have the stride in the 3 x 3 convolution."""
ADDRESS = "https://download.pytorch.org/models/"

TORCHVISION = (
    (r"^conv1\.", "stem."),
    (r"^bn1\.", "stem.norm."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
"""Our names for torchvision's."""
CAFFE2 = (
    (r"^(res_)?conv1_", "stem."),
    (r"^(res\d)_(\d+)_branch1_", r"\1.\2.shortcut."),
    (r"^(res\d)_(\d+)_branch2(\w)_", lambda m: f"{m[1]}.{m[2]}.conv{'abc'.index(m[3]) + 1}."),
    (r"\.(bn|gn)_", ".norm."),
    (r"\.(s|gamma|w)$", ".weight"),
    (r"\.(b|beta)$", ".bias"),
    (r"\.(rm|running_mean)$", ".running_mean"),
    (r"\.(riv|running_var)$", ".running_var"),
)
"""Our names for those of Detectron's and Detectron2's ImageNet files, whose pictures are blue, green, red."""
IDLE = r"^(fc|pred|conv1_b$)|num_batches_tracked$|_momentum$"
"""The classifier, counters, and the bias of MSRA's ResNet-50 stem, which Detectron2 leaves out as well."""


def load_backbone(backbone: nn.Module, settings: config.Model, say: Callable[[str], None] = print) -> None:
    """Fill the backbone as `model.pretrained` says: `imagenet`, a published name, a file of weights, or nothing.

    Raises FileNotFoundError where a file can be had neither from disk nor from the network, and ValueError
    where its tensors don't fit; both say what to do.
    """
    if not settings.pretrained:
        return
    if settings.pretrained == "imagenet":
        if settings.norm == "group_norm":
            raise ValueError(
                f"model.pretrained: the published ImageNet weights of {settings.backbone} have batch norm but "
                f"model.norm is {settings.norm}; set model.norm=frozen_batch_norm, or model.pretrained='' to start anew"
            )
        path = published_file(settings.backbone, say)
    elif "://" in settings.pretrained:
        path = zoo.bring(_published_backbone(settings, say), say)
    else:
        path = Path(settings.pretrained).expanduser()
    fill(backbone, read_file(path).tensors, path)
    say(f"backbone: {settings.backbone} weights from {path}")


def published_file(name: str, say: Callable[[str], None]) -> Path:
    """torchvision's published file of a backbone, from the cache or downloaded into it and checked."""
    if name not in PUBLISHED:
        raise ValueError(
            f"model.pretrained=imagenet: torchvision publishes no weights of {name}; name a file with "
            "model.pretrained=PATH, or start from random weights with model.pretrained='' model.norm=group_norm "
            "model.frozen_stages=0"
        )
    file = PUBLISHED[name]
    digits = file.rsplit("-", 1)[1].removesuffix(".pth")
    try:
        return fetch(ADDRESS + file, file, sha256=digits, say=say)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"model.pretrained=imagenet: {error}. Or name another file with model.pretrained=PATH, or start from "
            "random weights with model.pretrained='' model.norm=group_norm model.frozen_stages=0"
        ) from error


def _published_backbone(settings: config.Model, say: Callable[[str], None]) -> zoo.Published:
    """The row that `model.pretrained` names; ValueError where the model is not the one that it was trained as."""
    one = zoo.find(settings.pretrained)
    if one.classes:
        raise ValueError(
            f"model.pretrained: {one.name} is a whole detector, not a backbone; expected a path, imagenet, or one of "
            f"{', '.join(row.name for row in zoo.PUBLISHED.values() if not row.classes)}"
        )
    if settings.stride_in_1x1 != ("model.stride_in_1x1=true" in one.overrides):
        raise ValueError(
            f"model.pretrained: {one.name} was trained with other settings than these; set {' '.join(one.overrides)}"
        )
    say(f"{one.name} expects {' '.join(one.overrides)}")
    return one


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's or Caffe2's names of a ResNet's tensors to ours, red first; what is no backbone is left out."""
    caffe2 = "conv1_w" in state
    renamed = {}
    for name, tensor in state.items():
        if re.search(IDLE, name):
            continue
        if caffe2 and name == "conv1_w":
            tensor = tensor.flip(1)
        for pattern, replacement in CAFFE2 if caffe2 else TORCHVISION:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def fill(backbone: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load torchvision's or our own names into the backbone; every tensor must be there and fit."""
    if not any(name.startswith("res2.") for name in state):
        state = rename(state)
    own = backbone.state_dict()
    state = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | state
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
