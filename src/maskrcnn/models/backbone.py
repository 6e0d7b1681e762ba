"""The interface between a backbone and the rest of the network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Backbone(nn.Module, ABC):
    """Maps images to feature maps, finest first. A subclass sets `strides` and `channels` and has the two methods."""

    strides: Sequence[int]
    """Pixels per cell of each map: powers of two, each twice the one before it."""
    channels: Sequence[int]
    """Channels of each map."""
    recompute = False
    """Whether the backward pass computes activations again instead of keeping them."""

    def run(self, block: nn.Module, x: Float[Tensor, "B C _ _"]) -> Float[Tensor, "B K _ _"]:
        """A block's result, computed again in the backward pass where `recompute` says so."""
        if not (self.recompute and torch.is_grad_enabled()):
            result: Tensor = block(x)
            return result
        # Nothing in a block is random, and asking a GPU for its generator's state cannot be recorded.
        again: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        return again

    @abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """Return the parts that `frozen_stages` counts, in the order of the forward pass, the stem first."""

    @abstractmethod
    def forward(self, pixels: Float[Tensor, "B N H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Compute the maps of images whose sides are multiples of the coarsest stride."""
