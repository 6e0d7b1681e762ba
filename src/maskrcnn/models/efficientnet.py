"""EfficientNet-Lite (Tan and Le 2019; Lite in TensorFlow's repository, 2020): features of few multiplications.

EfficientNet without squeeze and excitation, with ReLU6, and with a stem that does not grow with the rest.
"""

import math
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.models.backbone import Backbone
from maskrcnn.models.layers import Conv, Depthwise

SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}
"""Factors of channels and of blocks of each size, relative to the smallest."""
ROWS = {
    "stride4": ((2, 3, 2, 24),),
    "stride8": ((2, 5, 2, 40),),
    "stride16": ((3, 3, 2, 80), (3, 5, 1, 112)),
    "stride32": ((4, 5, 2, 192), (1, 3, 1, 320)),
}
"""Rows (blocks, kernel size, stride of the first, channels) of each stage behind the stem: the paper's table 1."""
STEM = 32
"""Channels of the first convolution, at every scale."""
EXPANSION = 6
"""Factor by which a block widens its input."""
DIVISOR = 8
"""Divisor of all numbers of channels."""


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


class EfficientNet(Backbone):
    """Images to features at strides 4, 8, 16 and 32, with TensorFlow's borders at every height and width.

    settings    `kind` and `norm` decide what is built
    num_bands   bands of the images
    """

    strides = (4, 8, 16, 32)

    def __init__(self, settings: config.Backbone, num_bands: int = 3) -> None:
        super().__init__()
        size, norm = size_of(settings.kind), settings.norm
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

    def stages(self) -> list[nn.Module]:
        """The stem, then one stage for each stride."""
        return list(self.children())

    def forward(self, pixels: Float[Tensor, "B N H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        x, features = pixels, []
        for stage in self.stages():
            for block in stage.children():
                x = self.run(block, x)
            features.append(x)
        return features[1:]


def size_of(kind: str) -> int:
    """Size by the name of a backbone.

    >>> size_of("efficientnet_lite2")
    2
    """
    return int(kind.removeprefix("efficientnet_lite"))


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
