"""`resize` in Numba: one pass over the rows of each image, for which 10 MB of pixels are written once.

A row of bytes, or of float32 levels, is normalised, then resampled across into a ring that holds as many rows as one
row of the result needs; these are added up with their weights straight into the result. Images are mostly enlarged, so
few rows go across, and what is done for each pixel of the result, going down, is a sum of two rows that vectors do.
Taps are taken in pairs.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64, Shaped, UInt8
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.resize.reference import padding_values
from maskrcnn.ops.threads import parallel_for
from maskrcnn.view import View, axes

ROWS = 200  # of the result, about a millisecond of work
NEVER, EACH_PASS, ONCE, FIXED = range(4)
"""When values are rounded to whole levels; `FIXED` is once, and in the integers of `resample_fixed` in `reference`."""


class Taps(NamedTuple):
    """What the samples along an axis are sums of; samples outside the image, at both ends, are left out."""

    begin: int
    """The index of the first sample in the result."""
    first: Int64[np.ndarray, " n"]
    """The first pixel of each sample."""
    weights: Float32[np.ndarray, "n t"]
    """Weights of that pixel and those that follow."""


def resize(
    images: UInt8[Tensor, "B h w C"] | Float[Tensor, "B h w C"],
    raw_sizes: Int[Tensor, "B 2"],
    view: View,
    bucket: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool,
    area: bool,
    whole_levels: bool,
    fixed_point: bool,
    black_padding: bool,
) -> Float[Tensor, "B C H W"]:
    """See `maskrcnn.ops.resize.resize`."""
    pixels = torch.empty(len(images), *bucket, images.shape[3])
    outside = padding_values(mean, std, black_padding)
    means, stds, around = (tuple(map(np.float32, values)) for values in (mean, std, outside))
    columns = (column.tolist() for column in (raw_sizes, view.windows, view.sizes, *axes(view)))
    each = zip(images.contiguous().numpy(), *columns, pixels.flatten(2).numpy(), strict=True)
    for levels, raw, window, (height, width), swapped, from_right, from_bottom, out in each:
        extents = (raw[0], window[1], window[3]), (raw[1], window[0], window[2])
        down = Taps(*_taps(*extents[swapped], height, False, antialias, area))
        across = Taps(*_taps(*extents[not swapped], width, from_right, antialias, area))
        if not len(down.first) or not len(across.first):
            out.reshape(-1, len(around))[:] = around
            continue
        if swapped:
            levels, down, across = _exchanged(levels, down, across)
        fixed = fixed_point and not whole_levels and down.weights.shape[1] == across.weights.shape[1] == 2
        if fixed:
            down, across = (taps._replace(weights=np.rint(2048 * taps.weights)) for taps in (down, across))
        rounding = EACH_PASS if whole_levels else FIXED if fixed else ONCE if fixed_point else NEVER
        target = (height - 1 - down.begin, -1) if from_bottom else (down.begin, 1)
        rows = levels.reshape(len(levels), -1)
        resize_rows = partial(_resize_rows, rows, down, across, target, means, stds, around, rounding, out)
        parallel_for(resize_rows, bucket[0], ROWS)
    return pixels.permute(0, 3, 1, 2)


def _exchanged(
    levels: Shaped[np.ndarray, "h w C"], down: Taps, across: Taps
) -> tuple[Shaped[np.ndarray, "_ _ C"], Taps, Taps]:
    """What is needed of an image with its rows and columns exchanged, and the taps there."""
    rows, columns = (slice(taps.first.min(), taps.first.max() + taps.weights.shape[1]) for taps in (across, down))
    down, across = (taps._replace(first=taps.first - taps.first.min()) for taps in (down, across))
    return np.ascontiguousarray(levels[rows, columns].swapaxes(0, 1)), down, across


@kernel()
@no_type_check
def _taps(raw, begin, end, wanted, backwards, antialias, area):
    """Return the `Taps` of the wanted samples that share the window from begin to end of an axis of raw pixels.

    Positions are float32, as in torch's own resampling: exact ones would differ from what other systems see by up to
    a hundredth of a level, more than all else does.
    """
    half, one, begin = np.float32(0.5), np.float32(1), np.float32(begin)
    scale = (np.float32(end) - begin) / np.float32(wanted)
    reach = max(scale, one) if antialias else one
    area = area and antialias and scale > one
    centres = np.empty(wanted, np.float32)
    for k in range(wanted):
        centres[k] = (np.float32(wanted - 1 - k if backwards else k) + half) * scale + begin
    inside = np.flatnonzero((centres >= 0) & (centres < raw))
    first = np.empty(len(inside), np.int64)
    weights = np.zeros((len(inside), 2 * int(np.ceil(reach))), np.float32)
    for n in range(len(inside)):
        centre = centres[inside[n]]
        low = centre - half * scale
        first[n] = max(0, int(np.floor(low)) if area else int(np.floor(centre - half - reach)) + 1)
        stop = min(raw, first[n] + weights.shape[1])
        total = np.float32(0)
        for i in range(first[n], stop):
            left = np.float32(i)
            weight = min(left + one, low + scale) - max(left, low) if area else one - abs(left + half - centre) / reach
            weight = max(np.float32(0), weight)
            weights[n, i - first[n]] = weight
            total += weight
        for i in range(first[n], stop):
            weights[n, i - first[n]] /= total
    return inside[0] if len(inside) else 0, first, weights


@kernel()
@no_type_check
def _resize_rows(image, down, across, target, means, stds, around, rounding, out, start, stop):
    """Compute some rows of the result, padding included.

    target   the row of the first sample, and 1 or -1: the direction of those that follow
    around   the padding's value in each band
    Rows are copied in loops: for an assignment of arrays Numba compiles what an error would say, for two seconds.
    """
    _, first_y, weights_y = down
    left, first_x, weights_x = across
    num_bands = len(means)
    left, side, room = num_bands * left, num_bands * len(first_x), weights_y.shape[1]
    begin = num_bands * first_x.min()
    end = min(num_bands * (first_x.max() + weights_x.shape[1]), image.shape[1])
    mean, std = _repeated(means, max(side, end - begin)), _repeated(stds, max(side, end - begin))
    padding = _repeated(around, out.shape[1])
    ring = np.zeros((room, side), np.float32)
    row = np.zeros(image.shape[1] + num_bands * weights_x.shape[1], np.float32)
    done = 0
    for y in range(start, stop):
        line = out[(target[0] + target[1] * y) % len(out)]
        if y >= len(first_y):
            _copy(padding, line)
            continue
        done = max(done, first_y[y])
        while done < min(first_y[y] + room, len(image)):
            levels = image[done][begin:end]
            if rounding != NEVER:
                for e in range(len(levels)):
                    row[begin + e] = levels[e]
                _resample_across(row, first_x, weights_x, num_bands, ring[done % room])
                if rounding == EACH_PASS:
                    _round(ring[done % room])
                elif rounding == FIXED:
                    _cut_to_sixteenths(ring[done % room])
            else:
                _normalise(levels, mean, std, row[begin:])
                _resample_across(row, first_x, weights_x, num_bands, ring[done % room])
            done += 1
        _copy(padding, line[:left])
        _copy(padding, line[left + side :])
        line = line[left : left + side]
        if rounding == FIXED:
            _resample_down_fixed(ring, first_y[y], weights_y[y], line)
        else:
            _resample_down(ring, first_y[y], weights_y[y], line)
        if rounding in (EACH_PASS, ONCE):
            _round(line)
        if rounding != NEVER:
            _normalise(line, mean, std, line)


@kernel()
@no_type_check
def _repeated(values, count):
    row = np.empty(count, np.float32)
    for e in range(count):
        row[e] = values[e] if e < len(values) else row[e - len(values)]
    return row


@kernel()
@no_type_check
def _copy(source, line):
    for e in range(len(line)):
        line[e] = source[e]


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
def _cut_to_sixteenths(levels):
    for e in range(len(levels)):
        levels[e] = np.floor(levels[e] / np.float32(16))


@kernel()
@no_type_check
def _resample_across(row, first, weights, num_bands, line):
    # Unsigned offsets spare the check for negative ones: 3.0 becomes 0.9 ms for 480 rows of 640 pixels.
    for t in range(0, weights.shape[1], 2):
        for x in range(len(first)):
            near, far = np.uint64(num_bands * (first[x] + t)), np.uint64(num_bands * (first[x] + t + 1))
            for c in range(num_bands):
                value = weights[x, t] * row[near + np.uint64(c)] + weights[x, t + 1] * row[far + np.uint64(c)]
                offset = num_bands * x + c
                line[offset] = value if t == 0 else line[offset] + value


@kernel()
@no_type_check
def _resample_down(ring, first, weights, line):
    room = len(weights)
    for t in range(0, room, 2):
        near, far = ring[(first + t) % room], ring[(first + t + 1) % room]
        for e in range(len(line)):
            value = weights[t] * near[e] + weights[t + 1] * far[e]
            line[e] = value if t == 0 else line[e] + value


@kernel()
@no_type_check
def _resample_down_fixed(ring, first, weights, line):
    near, far, cut = ring[first % 2], ring[(first + 1) % 2], np.float32(65536)
    for e in range(len(line)):
        quarters = np.floor(weights[0] * near[e] / cut) + np.floor(weights[1] * far[e] / cut)
        line[e] = np.floor((quarters + np.float32(2)) / np.float32(4))
