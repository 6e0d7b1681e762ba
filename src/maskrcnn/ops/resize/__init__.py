"""`resize`: views of decoded images become the normalised, padded pixels of a batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from maskrcnn.ops.operator import operator
from maskrcnn.ops.resize import angles, cpu, reference
from maskrcnn.view import View


def resize(
    images: UInt8[Tensor, "B h w C"] | Float[Tensor, "B h w C"],
    raw_sizes: Int[Tensor, "B 2"],
    view: View,
    *,
    bucket: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool = True,
    area: bool = False,
    whole_levels: bool = False,
    fixed_point: bool = False,
    black_padding: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Resample the window of each image to its size, turn, mirror, normalise, pad to `bucket`.

    images         levels of 0..255: bytes, or float32
    raw_sizes      (height, width) of each image, which lies at the top left of its slot
    view           windows are in pixels of the images as they are here, see `View.rescaled`
    mean, std      of each band, in levels of 0..255: pixels become (level - mean) / std
    antialias      shrinking averages all pixels; otherwise two beside each sample
    area           it weighs each pixel by the area that a sample's pixel covers of it, otherwise by a triangle twice as
                   wide
    whole_levels   round to whole levels after the columns and after the rows
    fixed_point    round to whole levels once: averages to the nearest; for a mean of four pixels, weights are multiples
                   of 1/2048, and each row's part is cut to a quarter of a level before both are added and rounded
    black_padding  pad with level 0, that is -mean / std, instead of exact zeros

    Pixels whose centre lies outside the image are padding. All others are weighted means of the image's pixels,
    those beyond the window too: only the image's edge is an edge, where the weights of the pixels that are there are
    scaled to 1. A turned view is `np.rot90` of the view to float32 rounding; its image is turned first, so that whole
    levels are rounded after the columns of the result. A view at an angle is resized upright, then turned by bilinear
    sampling; pixels at the image's edges are partly padding.

    Equals `interpolate(mode="bilinear", antialias=antialias)` of each image alone, to float32 rounding; with
    `whole_levels` it equals Pillow's, but for some values that lie between two levels and become the other one; with
    `area` it equals `adaptive_avg_pool2d` where images shrink by whole factors; with `area` and `fixed_point` 99.9 % of
    the values are OpenCV's (`INTER_LINEAR` where images grow, `INTER_AREA` where they shrink).
    float32, channels_last; no gradient. Raises ValueError where mean or std is not one for each band.
    """
    if not len(mean) == len(std) == images.shape[3]:
        raise ValueError(
            f"expected a mean and a std for each of the {images.shape[3]} bands, received {len(mean)} and {len(std)}"
        )
    settings = antialias, area, whole_levels, fixed_point, black_padding
    if view.angles is None:
        return _upright(images, raw_sizes, view, bucket, mean, std, *settings)
    around, room = angles.surroundings(view, bucket)
    pixels = _upright(images, raw_sizes, around, room, mean, std, *settings)
    return angles.turn(pixels, around, view, bucket, reference.padding_values(mean, std, black_padding))


def _upright(
    images: Tensor,
    raw_sizes: Tensor,
    view: View,
    bucket: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *settings: bool,
) -> Float[Tensor, "B C H W"]:
    if images.device.type != "cpu":
        return reference.resize(images, raw_sizes, view, bucket, mean, std, *settings)
    return _resize(
        images, raw_sizes, view.windows, view.sizes, view.mirrored, view.turns, *bucket, mean, std, *settings
    )


@operator("resize", "cpu")
def _resize(
    images: Tensor,
    raw_sizes: Tensor,
    windows: Tensor,
    sizes: Tensor,
    mirrored: Tensor,
    turns: Tensor | None,
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool,
    area: bool,
    whole_levels: bool,
    fixed_point: bool,
    black_padding: bool,
) -> Tensor:
    view, bucket = View(windows, sizes, mirrored, turns), (height, width)
    settings = antialias, area, whole_levels, fixed_point, black_padding
    return cpu.resize(images, raw_sizes, view, bucket, mean, std, *settings)


@_resize.register_fake
def _(images, raw_sizes, windows, sizes, mirrored, turns, height, width, *settings):  # type: ignore[no-untyped-def]
    size = len(images), height, width, images.shape[3]
    return images.new_empty(size, dtype=torch.float32).permute(0, 3, 1, 2)
