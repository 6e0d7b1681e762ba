"""`resize`: decoded images of any sizes become the normalised, padded pixels of a batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from maskrcnn.config import Triple
from maskrcnn.ops.operator import operator
from maskrcnn.ops.resize import cpu, reference


def resize(
    images: UInt8[Tensor, "B h w 3"],
    raw_sizes: Int[Tensor, "B 2"],
    sizes: Int[Tensor, "B 2"],
    flip: Bool[Tensor, " B"],
    *,
    bucket: tuple[int, int],
    mean: Triple,
    std: Triple,
    antialias: bool = True,
    whole_levels: bool = False,
) -> Float[Tensor, "B 3 H W"]:
    """Resize the top left `raw_sizes` of each image to `sizes`, mirror, normalise, pad with exact zeros to `bucket`.

    flip          which images are mirrored, left to right
    mean, std     of each channel, in levels of 0..255: pixels become (level - mean) / std
    antialias     shrinking averages all pixels; otherwise two beside each sample
    whole_levels  round to whole levels after the columns and after the rows

    Equals `interpolate(mode="bilinear", antialias=antialias)` of each image alone, to float32 rounding; with
    `whole_levels` it equals Pillow's, but for some values that lie between two levels and become the other one.
    float32, channels_last; no gradient.
    """
    if images.device.type != "cpu":
        return reference.resize(images, raw_sizes, sizes, flip, bucket, mean, std, antialias, whole_levels)
    return _resize(images, raw_sizes, sizes, flip, *bucket, mean, std, antialias, whole_levels)


@operator("resize", "cpu")
def _resize(
    images: Tensor,
    raw_sizes: Tensor,
    sizes: Tensor,
    flip: Tensor,
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool,
    whole_levels: bool,
) -> Tensor:
    return cpu.resize(images, raw_sizes, sizes, flip, (height, width), mean, std, antialias, whole_levels)


@_resize.register_fake
def _(images, raw_sizes, sizes, flip, height, width, *settings):  # type: ignore[no-untyped-def]
    return images.new_empty((len(images), height, width, 3), dtype=torch.float32).permute(0, 3, 1, 2)
