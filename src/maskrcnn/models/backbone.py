"""What the rest of the network asks of a backbone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Images to feature maps, finest first. A subclass sets `strides` and `channels` and has the two methods."""

    strides: Sequence[int]
    """Pixels per cell of each map: powers of two, each twice the one before."""
    channels: Sequence[int]
    """Channels of each map."""
    recompute = False
    """Whether the backward pass computes activations again instead of keeping them."""

    @abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """Parts in the order in which pixels meet them, the stem first: what `frozen_stages` counts."""

    @abstractmethod
    def forward(self, pixels: Float[Tensor, "B N H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Maps of images whose sides are multiples of the coarsest stride."""
