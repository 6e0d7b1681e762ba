"""ResNet (He et al. 2015) and ResNeXt (Xie et al. 2017): a stem and four stages, whose outputs feed the pyramid."""

import re
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.models.backbone import Backbone
from maskrcnn.models.layers import Conv

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Basic(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, channels, 3, stride=stride, norm=norm, relu=True)
        self.conv2 = Conv(channels, channels, 3, norm=norm, relu=True)
        self.shortcut = _shortcut(in_channels, channels, stride, norm)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.conv2(self.conv1(x), residual)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut.

    groups          groups of the 3 x 3 convolution
    group_width     channels of each group where `channels` is 64
    stride_in_1x1   whether the stride is in the first 1 x 1, as in the first paper, or in the 3 x 3
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        norm: str,
        *,
        groups: int = 1,
        group_width: int = 64,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        out_channels, inner = channels * self.expansion, channels * group_width // 64 * groups
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Conv(in_channels, inner, 1, stride=first, norm=norm, relu=True)
        self.conv2 = Conv(inner, inner, 3, stride=second, groups=groups, norm=norm, relu=True)
        self.conv3 = Conv(inner, out_channels, 1, norm=norm, relu=True)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.conv3(self.conv2(self.conv1(x)), residual)


class ResNet(Backbone):
    """Maps images to features at strides 4, 8, 16 and 32.

    settings    `kind`, `norm`, `width`, `stride_in_1x1` and `stem_pool` are read
    num_bands   bands of the images, such as 3 for RGB
    """

    strides = (4, 8, 16, 32)

    def __init__(self, settings: config.Backbone, num_bands: int = 3) -> None:
        super().__init__()
        depth, groups, group_width = shape_of(settings.kind)
        norm, width = settings.norm, settings.width
        block: Callable[[int, int, int, str], Basic | Bottleneck] = Basic
        expansion = Basic.expansion
        if depth >= 50:
            block = partial(Bottleneck, groups=groups, group_width=group_width, stride_in_1x1=settings.stride_in_1x1)
            expansion = Bottleneck.expansion
        self.pool_at_end = settings.stem_pool == "end"
        self.stem = Conv(num_bands, width, 7, stride=2, norm=norm, relu=True)
        channels, self.channels = width, []
        for number, (num_blocks, stride) in enumerate(zip(BLOCKS[depth], (1, 2, 2, 2), strict=True)):
            planes = width * 2**number
            inputs = [channels] + [planes * expansion] * (num_blocks - 1)
            strides = [stride] + [1] * (num_blocks - 1)
            blocks = [block(i, planes, s, norm) for i, s in zip(inputs, strides, strict=True)]
            self.add_module(f"res{number + 2}", nn.Sequential(*blocks))
            channels = planes * expansion
            self.channels.append(channels)

    def stages(self) -> list[nn.Module]:
        """Return the stem, res2, res3, res4 and res5."""
        return list(self.children())

    def forward(self, pixels: Float[Tensor, "B N H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        x = self.stem(pixels)  # not negative, so zeros pad like -inf
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, stride=2) if self.pool_at_end else F.max_pool2d(x, 3, 2, padding=1)
        features = []
        for stage in self.stages()[1:]:
            for block in stage.children():
                x = self.run(block, x)
            features.append(x)
        return features


def shape_of(kind: str) -> tuple[int, int, int]:
    """Parse depth, number of groups and their width.

    >>> shape_of("resnext101_32x8d"), shape_of("resnet50")
    ((101, 32, 8), (50, 1, 64))
    """
    parts = re.fullmatch(r"resnex?t(\d+)(?:_(\d+)x(\d+)d)?", kind)
    assert parts is not None, "config.Backbone.kind admits no other names"
    depth, groups, width = parts.groups()
    return int(depth), int(groups or 1), int(width or 64)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> Conv | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return Conv(in_channels, out_channels, 1, stride=stride, norm=norm)
