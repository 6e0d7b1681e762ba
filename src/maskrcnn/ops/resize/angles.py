"""Views at an angle, in two steps: what they need of the image upright, at their scale, then turned between its pixels.

The first step is `resize` itself, so images shrink, round and are padded as upright ones do. The second is bilinear, at
a scale of 1. All shapes follow from the bucket.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from maskrcnn.view import View, compose, extents_of, inverse, matrix

MARGIN = 2
"""Pixels around what is needed: between the outermost samples and the edge there is always a pixel of padding."""


def surroundings(view: View, bucket: tuple[int, int]) -> tuple[View, tuple[int, int]]:
    """Upright views that hold everything that views at an angle see, at the same scales, and their bucket.

    Without an angle their pixels are those of the view.
    """
    corners, ends = view.windows.unflatten(1, (2, 2)).unbind(1)
    sides, centres = ends - corners, (corners + ends) / 2
    extents = extents_of(view)
    scales = extents / sides
    assert view.angles is not None
    cosines, sines = torch.cos(view.angles.deg2rad()).abs()[:, None], torch.sin(view.angles.deg2rad()).abs()[:, None]
    needed = (cosines * sides + sines * sides.flip(1)) * scales
    most = 2 * math.ceil(math.hypot(*bucket) / 2 + MARGIN)
    pairs = (torch.ceil((needed - extents) / 2 - 1e-3) + MARGIN).long()  # as many more on each side: grids coincide
    sizes = (extents + 2 * pairs).clamp(1, most)
    halves = sizes / scales / 2
    windows = torch.cat([centres - halves, centres + halves], 1)
    return View(windows, sizes.flip(1), torch.zeros_like(view.mirrored)), (most, most)


def turn(
    pixels: Float[Tensor, "B C s s"],
    upright: View,
    view: View,
    bucket: tuple[int, int],
    outside: Sequence[float],
) -> Float[Tensor, "B C H W"]:
    """The pixels of views at an angle, from those of the upright views that surround them.

    outside  value of the padding in each band
    """
    rows, columns = (torch.arange(side, device=pixels.device) for side in bucket)
    to = compose(matrix(upright), inverse(view))
    by_x, by_y, shift = to[:, None, None].unbind(4)
    places = (columns + 0.5)[:, None] * by_x + (rows + 0.5)[:, None, None] * by_y + shift
    side = pixels.shape[2]
    turned = F.grid_sample(pixels, places * (2 / side) - 1, padding_mode="border", align_corners=False)
    beyond = (rows >= view.sizes[:, :1])[:, :, None] | (columns >= view.sizes[:, 1:])[:, None]
    for band, value in zip(turned.unbind(1), outside, strict=True):
        band.masked_fill_(beyond, value)
    return turned.contiguous(memory_format=torch.channels_last)
