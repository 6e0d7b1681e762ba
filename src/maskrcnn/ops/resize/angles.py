"""Views at an angle, in two steps: what they need of the image upright, at their scale, then turned between its pixels.

The first step is `resize` itself, so images shrink, round and are padded as upright ones do. The second is bilinear, at
a scale of 1: in Numba on a CPU, where it takes a tenth of the time, in plain PyTorch elsewhere.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.threads import parallel_for
from maskrcnn.view import View, compose, extents_of, inverse, matrix

MARGIN = 2
"""Pixels around what is needed: between the outermost samples and the edge there is always a pixel of padding."""
ROWS = 50  # of the result, some tenths of a millisecond of work


def surroundings(view: View, bucket: tuple[int, int]) -> tuple[View, tuple[int, int]]:
    """Upright views that hold everything that views at an angle see, at the same scales, and their bucket.

    Without an angle their pixels are those of the view. On a CPU the bucket is as large as these views need it;
    elsewhere, where nothing should wait for numbers, it follows from that of the results.
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
    sizes = (extents + 2 * pairs).clamp(1, most).flip(1)
    halves = sizes.flip(1) / scales / 2
    upright = View(torch.cat([centres - halves, centres + halves], 1), sizes, torch.zeros_like(view.mirrored))
    if sizes.device.type != "cpu" or not len(sizes):
        return upright, (most, most)
    height, width = sizes.amax(0).tolist()
    return upright, (height, width)


def turn(
    pixels: Float[Tensor, "B C h w"],
    upright: View,
    view: View,
    bucket: tuple[int, int],
    outside: Sequence[float],
) -> Float[Tensor, "B C H W"]:
    """The pixels of views at an angle, from those of the upright views that surround them.

    outside  value of the padding in each band
    """
    to = compose(matrix(upright), inverse(view))
    if pixels.device.type != "cpu":
        return turn_anywhere(pixels, to, view, bucket, outside)
    turned = torch.empty(len(pixels), *bucket, pixels.shape[1])
    padding = np.array(outside, np.float32)
    levels = pixels.permute(0, 2, 3, 1).contiguous()
    for source, steps, size, out in zip(levels, to, view.sizes.tolist(), turned, strict=True):
        rows = partial(_turn_rows, source.numpy(), steps.numpy(), tuple(size), padding, out.numpy())
        parallel_for(rows, bucket[0], ROWS)
    return turned.permute(0, 3, 1, 2)


def turn_anywhere(
    pixels: Float[Tensor, "B C h w"],
    to: Float[Tensor, "B 2 3"],
    view: View,
    bucket: tuple[int, int],
    outside: Sequence[float],
) -> Float[Tensor, "B C H W"]:
    """The definition, on any device, of what `turn` does; `to` leads from the results to the pixels."""
    rows, columns = (torch.arange(side, device=pixels.device) for side in bucket)
    by_x, by_y, shift = to[:, None, None].unbind(4)
    x, y = ((columns + 0.5)[:, None] * by_x + (rows + 0.5)[:, None, None] * by_y + shift).unbind(3)
    height, width = pixels.shape[2:]
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], 3)
    turned = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    beyond = (rows >= view.sizes[:, :1])[:, :, None] | (columns >= view.sizes[:, 1:])[:, None]
    for band, value in zip(turned.unbind(1), outside, strict=True):
        band.masked_fill_(beyond, value)
    return turned.contiguous(memory_format=torch.channels_last)


@kernel()
@no_type_check
def _turn_rows(source, to, size, padding, out, start, stop):
    """Compute some rows of the result, padding included."""
    half, zero = np.float32(0.5), np.float32(0)
    step_x, step_y, by_y, shift = to[0, 0], to[1, 0], to[:, 1], to[:, 2]
    num_bands, levels = len(padding), source.reshape(-1)
    right, bottom = np.float32(source.shape[1] - 1), np.float32(source.shape[0] - 1)
    for row in range(start, stop):
        line, shown = out[row].reshape(-1), size[1] if row < size[0] else 0
        along_y = np.float32(row) + half
        first_x, first_y = along_y * by_y[0] + shift[0] - half, along_y * by_y[1] + shift[1] - half
        for column in range(shown):
            along_x = np.float32(column) + half
            x = min(max(first_x + along_x * step_x, zero), right)
            y = min(max(first_y + along_x * step_y, zero), bottom)
            left, top = np.int64(x), np.int64(y)
            across, down = x - np.float32(left), y - np.float32(top)
            # Unsigned offsets spare the check for negative ones.
            here = np.uint64((top * source.shape[1] + left) * num_bands)
            beside = np.uint64(num_bands if left + 1 < source.shape[1] else 0)
            below = np.uint64(num_bands * source.shape[1] if top + 1 < source.shape[0] else 0)
            for c in range(num_bands):
                near = here + np.uint64(c)
                far = near + below
                upper = levels[near] + (levels[near + beside] - levels[near]) * across
                lower = levels[far] + (levels[far + beside] - levels[far]) * across
                line[np.uint64(column * num_bands + c)] = upper + (lower - upper) * down
        for column in range(shown, out.shape[1]):
            for c in range(num_bands):
                line[column * num_bands + c] = padding[c]
