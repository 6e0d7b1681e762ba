"""`resize` in Numba: one pass over the rows of each image, for which 10 MB of pixels are written once.

A row of bytes is normalised, then resampled across into a ring that holds as many rows as one row of the result needs;
these are added up with their weights straight into the result. Images are mostly enlarged, so few rows go across, and
what is done for each pixel of the result, going down, is a sum of two rows that vectors do. Taps are taken in pairs.
"""

from collections.abc import Sequence
from functools import partial
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.threads import parallel_for

ROWS = 200  # of the result, about a millisecond of work


def resize(
    images: UInt8[Tensor, "B h w 3"],
    raw_sizes: Int[Tensor, "B 2"],
    sizes: Int[Tensor, "B 2"],
    flip: Bool[Tensor, " B"],
    bucket: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool,
    whole_levels: bool,
) -> Float[Tensor, "B 3 H W"]:
    """See `maskrcnn.ops.resize.resize`."""
    pixels = torch.empty(len(images), *bucket, 3)
    levels = images.contiguous().flatten(2).numpy()
    centres, spreads = (
        np.tile(np.array(values, np.float32), max(levels.shape[2], 3 * bucket[1]) // 3) for values in (mean, std)
    )
    for image, raw, size, mirrored, out in zip(
        levels, raw_sizes.tolist(), sizes.tolist(), flip.tolist(), pixels.flatten(2).numpy(), strict=True
    ):
        down = _taps(raw[0], size[0], False, antialias)
        across = _taps(raw[1], size[1], mirrored, antialias)
        resize_rows = partial(_resize_rows, image, *raw, *down, *across, centres, spreads, whole_levels, out)
        parallel_for(resize_rows, bucket[0], ROWS)
    return pixels.permute(0, 3, 1, 2)


@kernel()
@no_type_check
def _taps(raw, wanted, mirrored, antialias):
    """(first, weights): each of the wanted samples is a sum over raw ones, as many as there are weights, from first.

    Positions are float32, as in torch's own resampling: exact ones would differ from what other systems see by up to
    a hundredth of a level, more than all else does.
    """
    half, one = np.float32(0.5), np.float32(1)
    scale = np.float32(raw) / np.float32(wanted)
    reach = max(scale, one) if antialias else one
    first = np.empty(wanted, np.int64)
    weights = np.zeros((wanted, 2 * int(np.ceil(reach))), np.float32)
    for k in range(wanted):
        centre = (np.float32(wanted - 1 - k if mirrored else k) + half) * scale
        first[k] = max(0, int(np.floor(centre - half - reach)) + 1)
        stop = min(raw, first[k] + weights.shape[1])
        total = np.float32(0)
        for i in range(first[k], stop):
            weight = max(np.float32(0), one - abs(np.float32(i) + half - centre) / reach)
            weights[k, i - first[k]] = weight
            total += weight
        for i in range(first[k], stop):
            weights[k, i - first[k]] /= total
    return first, weights


@kernel()
@no_type_check
def _resize_rows(image, height, width, first_y, down, first_x, across, mean, std, whole_levels, out, start, stop):
    """Compute rows start to stop of the result, padding included, from the first pixels of an image, height x width.

    Rows are copied in loops: for an assignment of arrays Numba compiles what an error would say, for two seconds.
    """
    side, room = 3 * len(first_x), down.shape[1]
    ring = np.zeros((room, side), np.float32)
    row = np.zeros(3 * (width + across.shape[1]), np.float32)
    done = 0
    for y in range(start, min(stop, len(first_y))):
        done = max(done, first_y[y])
        while done < min(first_y[y] + room, height):
            levels = image[done][: 3 * width]
            if whole_levels:
                for e in range(len(levels)):
                    row[e] = levels[e]
                _resample_across(row, first_x, across, ring[done % room])
                _round(ring[done % room])
            else:
                _normalise(levels, mean, std, row)
                _resample_across(row, first_x, across, ring[done % room])
            done += 1
        line = out[y, :side]
        _resample_down(ring, first_y[y], down[y], line)
        if whole_levels:
            _round(line)
            _normalise(line, mean, std, line)
        out[y, side:] = 0
    out[max(start, len(first_y)) : stop] = 0


@kernel()
@no_type_check
def _normalise(levels, mean, std, row):
    for e in range(len(levels)):
        row[e] = (levels[e] - mean[e]) / std[e]


@kernel()
@no_type_check
def _round(levels):
    for e in range(len(levels)):
        levels[e] = np.floor(levels[e] + np.float32(0.5))


@kernel()
@no_type_check
def _resample_across(row, first, weights, line):
    # Unsigned offsets spare the check for negative ones: 3.0 becomes 0.9 ms for 480 rows of 640 pixels.
    for t in range(0, weights.shape[1], 2):
        for x in range(len(first)):
            near, far = np.uint64(3 * (first[x] + t)), np.uint64(3 * (first[x] + t) + 3)
            for c in range(3):
                value = weights[x, t] * row[near + np.uint64(c)] + weights[x, t + 1] * row[far + np.uint64(c)]
                line[3 * x + c] = value if t == 0 else line[3 * x + c] + value


@kernel()
@no_type_check
def _resample_down(ring, first, weights, line):
    room = len(weights)
    for t in range(0, room, 2):
        near, far = ring[(first + t) % room], ring[(first + t + 1) % room]
        for e in range(len(line)):
            value = weights[t] * near[e] + weights[t + 1] * far[e]
            line[e] = value if t == 0 else line[e] + value
