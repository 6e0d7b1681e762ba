"""Images that show nearly the same: copies of another size, quality or brightness, and neighbours in a film.

Each image becomes a small gray one. The signs of its slowest waves are 63 bits, which copies nearly share; images that
share one of eight groups of these bits are compared, and so 100,000 images cost no comparison of all pairs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt64
from PIL import Image

from maskrcnn.data.decode import decode_picture
from maskrcnn.data.health.findings import Progress
from maskrcnn.data.health.survey import THREADS
from maskrcnn.kernels import kernel
from maskrcnn.masks.union_find import root_of, unite

SIDE = 32
"""Pixels of a small image's sides."""
WAVES = 8
"""Number of waves along each axis whose signs are looked at."""
NUM_BANDS, BAND_BITS = 8, 8
MOST_BITS = 10
"""Bits in which copies differ at most."""
LEAST_CORRELATION = 0.95
"""Correlation of two small images from which on they show the same."""
WINDOW = 2048
"""Number of images with the same bits that each is compared with: a film of one view is no square of work."""


def near_duplicates(paths: Sequence[Path], progress: Progress | None = None) -> Int64[np.ndarray, " n"]:
    """The group of each image: the index of the first that shows nearly the same; its own where there is no other.

    An image that cannot be decoded is like no other.
    """
    small = np.zeros((len(paths), SIDE, SIDE), np.uint8)
    known = np.zeros(len(paths), bool)

    def look(index: int) -> None:
        try:
            small[index] = shrink(decode_picture(paths[index], max_rowsize=1))
        except (OSError, ValueError):
            return
        known[index] = True

    with ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(look, range(len(paths))), 1):
            if progress is not None:
                progress(done, len(paths))
    groups = np.arange(len(paths))
    indices = np.flatnonzero(known)
    groups[indices] = indices[group(small[indices])]
    return groups


def shrink(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "32 32"]:
    """A small gray image, whose contrast fills its range: every pixel is a mean over its part of the large one."""
    image = Image.fromarray(pixels).convert("L")
    values = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0))
    low, high = int(values.min()), int(values.max())
    return ((values - low) * (255.0 / max(high - low, 1)) + 0.5).astype(np.uint8)


def group(small: UInt8[np.ndarray, "n 32 32"]) -> Int64[np.ndarray, " n"]:
    """The index of the first image that shows nearly the same, through others where need be."""
    parents = np.arange(len(small))
    if not len(small):
        return parents
    flat = small.reshape(len(small), -1)
    seen: dict[bytes, int] = {}
    for index, row in enumerate(flat):
        parents[index] = seen.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), index)
    distinct = np.array(list(seen.values()))
    bits = signs(small[distinct])
    for band in range(NUM_BANDS):
        turned = np.bitwise_or(bits << np.uint64(band * BAND_BITS), bits >> np.uint64((64 - band * BAND_BITS) % 64))
        order = np.argsort(turned, kind="stable")
        _join(bits, turned, order, distinct, flat, parents)
    return np.array([root_of(parents, index) for index in range(len(parents))], np.int64)


def signs(small: UInt8[np.ndarray, "n 32 32"]) -> UInt64[np.ndarray, " n"]:
    """Signs of the cosine transform's lowest 8 x 8 coefficients, a bit each; the mean's is 0."""
    waves = _waves()
    powers = np.uint64(1) << np.arange(WAVES * WAVES, dtype=np.uint64)
    powers[0] = 0
    found = np.zeros(len(small), np.uint64)
    for start in range(0, len(small), 4096):
        chunk = waves @ small[start : start + 4096].astype(np.float32) @ waves.T
        found[start : start + 4096] = ((chunk > 0).reshape(len(chunk), -1) * powers).sum(axis=1, dtype=np.uint64)
    return found


def _waves() -> Float32[np.ndarray, "8 32"]:
    angles = np.arange(WAVES)[:, None] * (np.arange(SIDE) + 0.5) * (np.pi / SIDE)
    return np.cos(angles).astype(np.float32)


@kernel()
@no_type_check
def _join(bits, turned, order, distinct, flat, parents):
    """Join what shows the same among images whose first bits, after a turn, are the same."""
    shift = np.uint64(64 - BAND_BITS)
    for i in range(len(order)):
        a = order[i]
        for j in range(i + 1, min(i + 1 + WINDOW, len(order))):
            b = order[j]
            if turned[a] >> shift != turned[b] >> shift:
                break
            if _differing(bits[a] ^ bits[b]) > MOST_BITS:
                continue
            one, other = root_of(parents, distinct[a]), root_of(parents, distinct[b])
            if one != other and _correlation(flat[distinct[a]], flat[distinct[b]]) >= LEAST_CORRELATION:
                unite(parents, one, other)


@kernel()
@no_type_check
def _differing(bits):
    number = 0
    while bits:
        bits &= bits - np.uint64(1)
        number += 1
    return number


@kernel()
@no_type_check
def _correlation(a, b):
    """Pearson's, of whole numbers up to 255; images of one colour have that of equals with each other alone."""
    n = len(a)
    sum_a = sum_b = sum_aa = sum_bb = sum_ab = np.int64(0)
    for k in range(n):
        x, y = np.int64(a[k]), np.int64(b[k])
        sum_a, sum_b = sum_a + x, sum_b + y
        sum_aa, sum_bb, sum_ab = sum_aa + x * x, sum_bb + y * y, sum_ab + x * y
    var_a, var_b = n * sum_aa - sum_a * sum_a, n * sum_bb - sum_b * sum_b
    if var_a == 0 or var_b == 0:
        return 1.0 if var_a == var_b else 0.0
    return (n * sum_ab - sum_a * sum_b) / np.sqrt(np.float64(var_a) * np.float64(var_b))
