"""Feature pyramid network (Lin et al. 2017)."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from maskrcnn.models.layers import Conv


class FPN(nn.Module):
    """Adds each coarse map to the finer one below it, so that every level has both meaning and detail.

    One more level, for the largest anchors, is the coarsest one at half its size. Padded heights and widths are
    multiples of the coarsest backbone stride, so an upsampled map has exactly the size of the finer one.

    in_channels   channels of the backbone's maps, finest first
    strides       pixels per cell of the backbone's maps, finest first
    upsample      `nearest`, or `bilinear` between the centres of cells
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        channels: int,
        norm: str | None = None,
        upsample: str = "nearest",
    ) -> None:
        super().__init__()
        self.channels, self.upsample = channels, upsample
        self.strides = (*strides, 2 * strides[-1])
        """Pixels per cell of each level, finest first."""
        self.lateral = nn.ModuleList(Conv(c, channels, 1, norm=norm) for c in in_channels)
        self.output = nn.ModuleList(Conv(channels, channels, 3, norm=norm) for _ in in_channels)
        for conv in [*self.lateral, *self.output]:
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, features: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        levels: list[Tensor] = []
        for lateral, x in zip(reversed(self.lateral), reversed(features), strict=True):
            above = F.interpolate(levels[0], scale_factor=2.0, mode=self.upsample) if levels else None
            levels.insert(0, lateral(x, above))
        pyramid = [output(x) for output, x in zip(self.output, levels, strict=True)]
        return [*pyramid, F.max_pool2d(pyramid[-1], 1, stride=2)]
