"""EfficientNet-Lite (Tan and Le 2019; Lite in TensorFlow's repository, 2020): features of few multiplications.

EfficientNet without squeeze and excitation, with ReLU6, and with a stem that does not grow with the rest.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskrcnn.models.layers import Conv, Depthwise

SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}
"""Of each size, by how much it is wider and deeper than the smallest."""
ROWS = {
    "stride4": ((2, 3, 2, 24),),
    "stride8": ((2, 5, 2, 40),),
    "stride16": ((3, 3, 2, 80), (3, 5, 1, 112)),
    "stride32": ((4, 5, 2, 192), (1, 3, 1, 320)),
}
"""Of each stage behind the stem: blocks, side of their weights, stride of the first, channels. The paper's table 1."""
STEM = 32
"""Channels of the first convolution, at every scale."""
EXPANSION = 6
"""Channels inside a block for each that it is given."""
DIVISOR = 8
"""Channels come in multiples of it."""


class InvertedResidual(nn.Module):
    """More channels at each pixel, a convolution of each, and fewer again, beside a shortcut where shapes allow.

    Sandler et al. 2018. The first two end in ReLU6, which `Depthwise` has on both its sides.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel_size: int, *, stride: int, expansion: int, norm: str
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = Conv(in_channels, inner, 1, norm=norm) if expansion > 1 else None
        self.depthwise = Depthwise(inner, kernel_size, stride=stride, norm=norm)
        self.project = Conv(inner, channels, 1, norm=norm)
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        y = x if self.expand is None else self.expand(x)
        result: Tensor = self.project(self.depthwise(y), x if self.has_shortcut else None)
        return result


class EfficientNet(nn.Module):
    """Images to features at strides 4, 8, 16 and 32, with TensorFlow's borders at every height and width.

    size            0 to 4; published weights have 0 and 2
    num_bands       channels of an image
    frozen_stages   how many of `stages` are not trained
    """

    strides = (4, 8, 16, 32)

    def __init__(self, size: int, *, norm: str, num_bands: int = 3, frozen_stages: int = 0) -> None:
        super().__init__()
        self.size = size
        self.recompute = False
        """Whether the backward pass computes what is inside the blocks again instead of keeping it."""
        channels, self.channels = scaled_channels(16, SCALES[size][0]), list[int]()
        self.stem = nn.Sequential(
            Conv(num_bands, STEM, 3, stride=2, norm=norm, same=True),
            InvertedResidual(STEM, channels, 3, stride=1, expansion=1, norm=norm),
        )
        for name, rows in ROWS.items():
            blocks = list[nn.Module]()
            for kernel_size, stride, planes in scaled_rows(rows, size):
                blocks.append(
                    InvertedResidual(channels, planes, kernel_size, stride=stride, expansion=EXPANSION, norm=norm)
                )
                channels = planes
            self.add_module(name, nn.Sequential(*blocks))
            self.channels.append(channels)
        for _, stage in self.stages()[:frozen_stages]:
            stage.requires_grad_(False)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Names and modules in the order in which an image meets them: the stem, then one for each stride."""
        return list(self.named_children())

    def forward(self, pixels: Float[Tensor, "B bands H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        x, features = pixels, []
        for _, stage in self.stages():
            for block in stage.children():
                x = self._again(block, x) if self.recompute and torch.is_grad_enabled() else block(x)
            features.append(x)
        return features[1:]

    def _again(self, block: nn.Module, x: Float[Tensor, "B Cin _ _"]) -> Float[Tensor, "B Cout _ _"]:
        # Nothing in a block is random, and asking a GPU for its generator's state cannot be recorded.
        result: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        return result


def scaled_rows(rows: Sequence[tuple[int, int, int, int]], size: int) -> Iterator[tuple[int, int, int]]:
    """Side of the weights, stride and channels of each block of a stage; single blocks stay single."""
    width, depth = SCALES[size]
    for num_blocks, kernel_size, stride, channels in rows:
        for number in range(num_blocks if num_blocks == 1 else math.ceil(depth * num_blocks)):
            yield kernel_size, stride if number == 0 else 1, scaled_channels(channels, width)


def scaled_channels(channels: int, width: float) -> int:
    """The multiple of 8 nearest to so many times as many channels, unless that takes more than a tenth of them.

    >>> [scaled_channels(channels, 1.1) for channels in (16, 24, 40, 320)]
    [16, 24, 48, 352]
    """
    wanted = channels * width
    nearest = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest if nearest >= 0.9 * wanted else nearest + DIVISOR
