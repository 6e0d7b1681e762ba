"""ImageNet weights for the backbone: published files, and the tensor names in them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.convert import caffe2, efficientnet, zoo
from maskrcnn.convert.files import read_file
from maskrcnn.convert.stem import with_bands_of
from maskrcnn.models.efficientnet import size_of
from maskrcnn.storage.download import download
from maskrcnn.storage.fetch import fetch_file
from maskrcnn.storage.location import is_remote, local
from maskrcnn.weights import check_finite, fill

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
"""Files of torchvision's first weights of each; names end with the first eight digits of the SHA-256.
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
"""Substitutions from torchvision's names, which timm shares, to ours."""
IDLE = r"^fc\.|num_batches_tracked$"
"""Pattern of tensors that are left out: classifier and counters."""
ADVICE = "check model.backbone.kind, model.backbone.width and model.backbone.norm"


def load_backbone(backbone: nn.Module, settings: config.Backbone, say: Callable[[str], None] = print) -> None:
    """Fill the backbone as its setting `pretrained` says: `imagenet`, a published name, a file of weights, or nothing.

    Weights for red, green and blue are spread over the bands that the backbone has.
    Raises FileNotFoundError where a file is neither on disk nor downloadable, and ValueError where its tensors do not
    fit; both say what to do.
    """
    if not settings.pretrained:
        return
    if settings.pretrained == "imagenet":
        path = _imagenet_file(settings, say)
    elif is_remote(settings.pretrained):
        path = fetch_file(settings.pretrained, say=say)
    elif zoo.is_name(settings.pretrained):
        path = zoo.download(_published_backbone(settings), say)
    else:
        path = local(settings.pretrained)
    tensors = read_file(path).tensors
    if efficientnet.recognises(tensors):
        renamed = efficientnet.rename(tensors, backbone)
    else:
        if not _are_ours(tensors):  # our own names do not tell
            _expect_stride(settings, str(path), in_1x1=caffe2.is_msra(tensors))
        renamed = rename(tensors)
    check_finite(renamed, path)
    fill(backbone, with_bands_of(renamed, backbone), path, ADVICE)
    say(f"backbone: {settings.kind} weights from {path}")


def _imagenet_file(settings: config.Backbone, say: Callable[[str], None]) -> Path:
    if settings.norm == "group_norm":
        raise ValueError(
            f"model.backbone.pretrained: the published ImageNet weights of {settings.kind} have batch norm but "
            f"model.backbone.norm is {settings.norm}; set model.backbone.norm=frozen_batch_norm, or "
            "model.backbone.pretrained='' to start from random weights"
        )
    if settings.is_efficientnet:
        return efficientnet.installed_file(size_of(settings.kind))
    return published_file(settings.kind, say)


def _are_ours(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of our own backbones."""
    return any(name.startswith(("res2.", "stride4.")) for name in state)


def published_file(name: str, say: Callable[[str], None]) -> Path:
    """Return torchvision's published file of a backbone, from the cache or downloaded into it and checked."""
    if name not in PUBLISHED:
        raise ValueError(
            f"model.backbone.pretrained=imagenet: torchvision publishes no weights of {name}; name a file with "
            f"model.backbone.pretrained=PATH, or start from random weights with {efficientnet.FROM_SCRATCH}"
        )
    file = PUBLISHED[name]
    digits = file.rsplit("-", 1)[1].removesuffix(".pth")
    try:
        return download(ADDRESS + file, file, sha256=digits, say=say)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"model.backbone.pretrained=imagenet: {error}. Or name another file, model.backbone.pretrained=PATH, or "
            f"start from random weights with {efficientnet.FROM_SCRATCH}"
        ) from error


def _published_backbone(settings: config.Backbone) -> zoo.Published:
    """Return the row that `model.backbone.pretrained` names. Raises ValueError where its stride is elsewhere."""
    one = zoo.find(settings.pretrained)
    if one.classes:
        raise ValueError(
            f"model.backbone.pretrained: {one.name} is a whole detector, not a backbone; expected a path, imagenet, "
            f"or one of {', '.join(row.name for row in zoo.PUBLISHED.values() if not row.classes)}"
        )
    _expect_stride(settings, one.name, in_1x1=one.stride_in_1x1)
    return one


def _expect_stride(settings: config.Backbone, origin: str, in_1x1: bool) -> None:
    if settings.stride_in_1x1 != in_1x1:
        side = 1 if in_1x1 else 3
        raise ValueError(
            f"model.backbone.pretrained: {origin} has the stride of a bottleneck in its {side} x {side} convolution; "
            f"set model.backbone.stride_in_1x1={str(in_1x1).lower()}"
        )


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ResNet's tensors to ours, adapted to pixels as our recipes have them, without the classifier.

    state   tensors of Caffe2, Detectron2, torchvision or timm; our own names are kept
    """
    if any(name in state for name in caffe2.MARKS):
        return caffe2.rename(state)
    if _are_ours(state):
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        if re.search(IDLE, name):
            continue
        for pattern, replacement in TORCHVISION:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
