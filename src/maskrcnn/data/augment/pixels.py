"""Colour, sharpness and noise of training images, by chance: each piece a pure function of pixels and keys.

Nothing here has a shape that depends on a value, and nothing waits for the device. Chance is decided by the key of each
image alone, so neither its neighbours in the batch nor the device change what becomes of it.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.data.augment.levels import Pieces
from maskrcnn.keys import uniform
from maskrcnn.structures import ImageBatch
from maskrcnn.view import View, inverse

CHANCE = 0.5
"""Probability of each piece for each image. Source: Liu et al. 2016 (SSD), and torchvision after them."""
BRIGHTNESS, CONTRAST, SATURATION, HUE, BLUR, NOISE, ROWS = range(11, 18)  # streams of random numbers
NUM_NORMALS = 1 << 18
"""Normal numbers, of which each row of noise takes as many as it needs from where its image's key says."""
LONGEST = NUM_NORMALS // 4
"""Numbers that are taken from one place: longer rows, such as 1024 pixels of 256 bands, are made of several pieces."""


class Normalising(NamedTuple):
    """How levels of 0..255 become pixels: (level - mean) / std of each band."""

    mean: Float[Tensor, " C"]
    std: Float[Tensor, " C"]


def distort(
    images: ImageBatch, shown: Bool[Tensor, "B 1 H W"], keys: Int[Tensor, " B"], pieces: Pieces, by: Normalising
) -> ImageBatch:
    """Blur, colour and noise, in the order in which lens, camera and sensor make them; then levels are cut to 0..255.

    shown   pixels that show an image, see `where_shown`; all others stay what they are
    Without any piece the images come back as they are.
    """
    pixels = images.pixels
    if pieces.blur:
        pixels = blur(pixels, drawn(keys, BLUR) * pieces.blur, pieces.blur, shown)
    if pieces.brightness or pieces.contrast or pieces.saturation or pieces.hue:
        pixels = recolour(pixels, *colours(mean_levels(pixels, shown, by), keys, pieces), by)
    if pieces.noise:
        pixels = (
            pixels
            + normals(keys, pixels) * (drawn(keys, NOISE) * pieces.noise)[:, None, None, None] / by.std[:, None, None]
        )
    if pixels is images.pixels:
        return images
    low, high = (((level - by.mean) / by.std)[:, None, None] for level in (0.0, 255.0))
    every_band = shown.expand_as(pixels).contiguous(memory_format=torch.channels_last)  # `where` is slow to spread it
    return images._replace(pixels=torch.where(every_band, pixels.clamp(low, high), images.pixels))


def where_shown(view: View, originals: Int[Tensor, "B 2"], bucket: tuple[int, int]) -> Bool[Tensor, "B 1 H W"]:
    """Tell which pixels of a batch show their image; the others are padding, around it or where a window exceeds it.

    originals   (height, width) in the frame of the view's windows
    bucket      (height, width) of the batch
    """
    rows, columns = (torch.arange(side, device=view.sizes.device) + 0.5 for side in bucket)
    shown = (rows < view.sizes[:, :1])[:, :, None] & (columns < view.sizes[:, 1:])[:, None]
    for by_column, by_row, shift, side in zip(
        *inverse(view).permute(2, 1, 0)[..., None], originals.T.flip(0)[..., None], strict=True
    ):
        position = (by_column * columns + shift)[:, None] + (by_row * rows)[:, :, None]
        shown &= (position >= 0) & (position < side[:, None])
    return shown[:, None]


def drawn(keys: Int[Tensor, " B"], stream: int) -> Float[Tensor, " B"]:
    """Draw an amount for each image: 0 for one half of them, evenly between 0 and 1 for the others."""
    amount, chance = uniform(keys, 2, stream=stream).unbind(1)
    return torch.where(chance < CHANCE, amount, 0.0)


def spread(keys: Int[Tensor, " B"], stream: int) -> Float[Tensor, " B"]:
    """Draw an amount for each image: 0 for one half of them, evenly between -1 and 1 for the others."""
    amount, chance = uniform(keys, 2, stream=stream).unbind(1)
    return torch.where(chance < CHANCE, 2 * amount - 1, 0.0)


def colours(
    means: Float[Tensor, "B C"], keys: Int[Tensor, " B"], pieces: Pieces
) -> tuple[Float[Tensor, " B"], Float[Tensor, "B C"], Float[Tensor, "B 3 3"] | None]:
    """Draw each image's change of colour: levels are multiplied by a gain, an offset added, and mixed by a matrix.

    means   of each band of the image, about which contrast is changed
    """
    brightness, contrast = (
        1 + largest * spread(keys, stream)
        for largest, stream in ((pieces.brightness, BRIGHTNESS), (pieces.contrast, CONTRAST))
    )
    offsets = (brightness * (1 - contrast))[:, None] * means
    if not (pieces.saturation or pieces.hue):
        return brightness * contrast, offsets, None
    saturation = 1 + pieces.saturation * spread(keys, SATURATION)
    return brightness * contrast, offsets, about_gray(saturation, pieces.hue * spread(keys, HUE))


def about_gray(saturation: Float[Tensor, " B"], hue: Float[Tensor, " B"]) -> Float[Tensor, "B 3 3"]:
    """Make the matrix that stretches red, green and blue away from gray and turns them about it.

    saturation   0 gives gray, the mean of the three; 1 leaves colours as they are
    hue          in turns: a third makes red green, green blue and blue red, as in HSV
    Source: Rodrigues' formula, for a rotation about (1, 1, 1).
    """
    same = torch.eye(3, device=hue.device)
    away, around = same - 1 / 3, (same.roll(1, 0) - same.roll(1, 1)) / math.sqrt(3)
    stretch, turn = (saturation * part(2 * math.pi * hue) for part in (torch.cos, torch.sin))
    return same + (stretch - 1)[:, None, None] * away + turn[:, None, None] * around


def recolour(
    pixels: Float[Tensor, "B C H W"],
    gains: Float[Tensor, " B"],
    offsets: Float[Tensor, "B C"],
    mixing: Float[Tensor, "B 3 3"] | None,
    by: Normalising,
) -> Float[Tensor, "B C H W"]:
    """Make levels `mixing @ (gains * levels + offsets)` of each pixel, all in normalised numbers."""
    moved = gains[:, None] * by.mean + offsets
    if mixing is None:
        return torch.addcmul(((moved - by.mean) / by.std)[:, :, None, None], pixels, gains[:, None, None, None])
    shift = ((mixing * moved[:, None]).sum(2) - by.mean) / by.std
    weights = gains[:, None, None] * mixing * by.std / by.std[:, None]
    mixed = torch.empty_like(pixels)
    (first, *others), by_band = pixels.split(1, dim=1), weights[:, :, :, None, None].unbind(2)
    torch.addcmul(shift[:, :, None, None], by_band[0], first, out=mixed)
    for weight, band in zip(by_band[1:], others, strict=True):
        mixed.addcmul_(weight, band)
    return mixed


def mean_levels(
    pixels: Float[Tensor, "B C H W"], shown: Bool[Tensor, "B 1 H W"], by: Normalising
) -> Float[Tensor, "B C"]:
    """Average each band of each image over every fourth pixel of every fourth row, in 0..255.

    In whole levels: in whatever order a device adds, images change alike.
    """
    pixels, shown = pixels[:, :, ::4, ::4], shown[:, :, ::4, ::4]
    means = torch.where(shown, pixels, 0).sum((2, 3)) / shown.sum((2, 3)).clamp(min=1)
    return (means * by.std + by.mean).round()


def blur(
    pixels: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " B"], largest: float, shown: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, "B C H W"]:
    """Smooth each image by a Gaussian; 0 leaves it as it is.

    sigmas    standard deviations in pixels, at most `largest`, which decides how many pixels are summed
    shown     pixels that are averaged; all others count for nothing
    """
    weights = gaussian(sigmas, largest)
    total, weight = (smooth(part, weights) for part in (pixels * shown, shown.to(pixels.dtype)))
    return total / weight.clamp(min=1e-30)


def gaussian(sigmas: Float[Tensor, " B"], largest: float) -> Float[Tensor, "B n"]:
    """Weights of a pixel and of those 1, 2, ... beside it to either side, up to three deviations of the largest."""
    distances = torch.arange(math.ceil(3 * largest) + 1, device=sigmas.device)
    weights = torch.exp(-((distances / sigmas[:, None].clamp(min=1e-3)) ** 2) / 2)
    return weights / (2 * weights.sum(1, keepdim=True) - 1)


def smooth(pixels: Float[Tensor, "B C H W"], weights: Float[Tensor, "B n"]) -> Float[Tensor, "B C H W"]:
    """Sum each pixel and its neighbours along both axes, those beyond the border as 0, with weights by distance."""
    middle, *others = weights[:, :, None, None, None].unbind(1)
    for axis, side in ((2, pixels.shape[2]), (3, pixels.shape[3])):
        total = pixels * middle
        for distance, weight in enumerate(others[: side - 1], 1):
            rest = side - distance
            total.narrow(axis, distance, rest).addcmul_(pixels.narrow(axis, 0, rest), weight)
            total.narrow(axis, 0, rest).addcmul_(pixels.narrow(axis, distance, rest), weight)
        pixels = total
    return pixels


def normals(keys: Int[Tensor, " B"], pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Draw a normal number for each pixel and band: each row is one or several pieces of a table, from anywhere."""
    _, bands, height, width = pixels.shape
    needed = width * bands
    per_row = math.ceil(needed / LONGEST)
    pieces = _table(pixels.device).unfold(0, math.ceil(needed / per_row), 1)
    starts = uniform(keys, height * per_row, stream=ROWS) * len(pieces)
    rows = pieces[starts.long()].unflatten(1, (height, per_row)).flatten(2)[:, :, :needed]
    return rows.unflatten(2, (width, bands)).permute(0, 3, 1, 2)


@cache
def _table(device: torch.device) -> Float[Tensor, " n"]:
    return torch.randn(NUM_NORMALS, generator=torch.Generator().manual_seed(0)).to(device)
