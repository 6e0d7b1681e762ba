"""First layers of networks that were trained on red, green and blue, for images of other bands."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

RGB = 3


def with_bands_of(tensors: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors of a backbone for three bands, the weights of its first layer spread over those of `backbone`.

    Others are as they are, and so are all where the bands agree.
    """
    expected = backbone.state_dict()
    return {
        name: spread(tensor, expected[name].shape[1]) if _is_first(tensor, expected.get(name)) else tensor
        for name, tensor in tensors.items()
    }


def spread(weight: Float[Tensor, "O 3 k l"], num_bands: int) -> Float[Tensor, "O num_bands k l"]:
    """Weights for more bands or fewer, whose sum is as it was, so that activations stay as large as they were trained.

    One band gets the sum over red, green and blue: gray images become what they were as three equal bands. More get
    the three in turn, times 3 / num_bands.
    Source: `adapt_input_conv` of timm (Wightman 2019), which does the same.
    """
    if num_bands == 1:
        return weight.sum(dim=1, keepdim=True)
    number = torch.arange(num_bands, device=weight.device) % RGB
    return weight[:, number] * (RGB / num_bands)


def _is_first(tensor: Tensor, expected: Tensor | None) -> bool:
    """Whether a convolution is for three bands here and for another number of them there."""
    if expected is None or tensor.ndim != 4 or expected.ndim != 4:
        return False
    is_same_layer = (tensor.shape[0], tensor.shape[2:]) == (expected.shape[0], expected.shape[2:])
    return is_same_layer and tensor.shape[1] == RGB != expected.shape[1]
