"""Calls of the operators that take whole images and levels, one after the other in memory."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.bench.case import IMAGE_SIZE, Case, bytes_of
from maskrcnn.data.buckets import Bucket
from maskrcnn.ops.conv1x1 import conv1x1
from maskrcnn.ops.conv1x1 import reference as plain_conv1x1
from maskrcnn.ops.conv3x3 import conv3x3
from maskrcnn.ops.conv3x3 import reference as plain_conv3x3
from maskrcnn.ops.group_norm import group_norm
from maskrcnn.ops.group_norm import reference as plain_group_norm
from maskrcnn.ops.resize import reference as plain_resize
from maskrcnn.ops.resize import resize
from maskrcnn.view import View


def convolutions(x: Float[Tensor, "B C H W"]) -> Iterator[Case]:
    """Convolutions of a level to itself: 3 x 3 as the RPN has, and 1 x 1 with a shortcut as the backbone has."""
    channels, size = x.shape[1], " x ".join(map(str, x.shape))
    bias = torch.zeros(channels, dtype=x.dtype, device=x.device)
    square, point = (
        (torch.randn(channels, channels, side, side, device=x.device) / (side * channels**0.5)).to(x.dtype)
        for side in (3, 1)
    )
    yield Case(
        "conv3x3",
        size,
        lambda: conv3x3(x, square, bias, relu=True),
        lambda: plain_conv3x3.conv3x3(x, square, bias, 1, True),
        2 * x.nbytes + square.nbytes,
    )
    yield Case(
        "conv1x1",
        size,
        lambda: conv1x1(x, point, bias, x, relu=True),
        lambda: plain_conv1x1.conv1x1(x, point, bias, x, 1, True),
        2 * x.nbytes + point.nbytes,
    )


def resizing(batch: int, bucket: Bucket, device: torch.device) -> Case:
    """Resizing of images that fill one side of the bucket."""
    images = torch.randint(0, 256, (batch, *IMAGE_SIZE, 3), dtype=torch.uint8).to(device)
    scale = min(side / raw for side, raw in zip(bucket, IMAGE_SIZE, strict=True))
    raw_sizes, sizes = (
        torch.tensor(size, device=device).expand(batch, 2)
        for size in (IMAGE_SIZE, [int(side * scale) for side in IMAGE_SIZE])
    )
    view = View.whole(raw_sizes, sizes)
    levels: dict[str, Any] = {"bucket": bucket, "mean": (120.0,) * 3, "std": (60.0,) * 3}
    plain: dict[str, Any] = dict.fromkeys(("area", "whole_levels", "fixed_point", "black_padding"), False)

    def kernel() -> Tensor:
        return resize(images, raw_sizes, view, **levels)

    return Case(
        "resize",
        f"{batch} images, {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]} to {bucket[0]} x {bucket[1]}",
        kernel,
        lambda: plain_resize.resize(images, raw_sizes, view, **levels, **plain, antialias=True),
        bytes_of(images, kernel()),
    )


def group_normalisation(x: Float[Tensor, "B C H W"]) -> Case:
    """Group norm of a level."""
    channels = x.shape[1]
    groups = min(32, channels // 2)
    weight, bias = torch.ones(channels, device=x.device), torch.zeros(channels, device=x.device)
    return Case(
        "group_norm",
        " x ".join(map(str, x.shape)),
        lambda: group_norm(x, weight, bias, groups=groups, relu=True),
        lambda: plain_group_norm.group_norm(x, weight, bias, groups=groups, eps=1e-5, relu=True),
        2 * x.nbytes,
    )
