"""Weights for a Mask R-CNN of any maker's spelling, the same today, tomorrow and on any machine.

Each tensor depends on its name, its shape and the seed, and on nothing else: integers from PCG64, scaled by numbers
that are exact or correctly rounded. Activations of 18 to 152 layers stay of the order of the pixels.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

VARIANCE = re.compile(r"(running_var|moving_variance)$")
MEAN = re.compile(r"(running_mean|moving_mean)$")
SHIFT = re.compile(r"(bias|beta)$")
COUNTER = re.compile(r"num_batches_tracked$")
BLOCK = re.compile(r"(res|layer)[1-5]\.\d+\.(?!.*(shortcut|down_?sample))")
"""Norms inside a residual block divide by 2, so that a sum of 50 blocks doesn't run away."""
LINEAR = re.compile(r"(fpn|lateral|inner_blocks|layer_blocks|neck\.)")
"""Convolutions that no ReLU follows, and whose sums feed each other."""
DELTA = re.compile(r"(delta|bbox_pred|rpn_reg|fc_reg)")
"""Layers that predict box deltas: small ones, so that boxes stay on the picture."""


def generate(shapes: Mapping[str, tuple[int, ...]], seed: int, pixels: float = 1.0) -> dict[str, "Tensor"]:
    """`arrays` as tensors."""
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays(shapes, seed, pixels).items()}


def arrays(shapes: Mapping[str, tuple[int, ...]], seed: int, pixels: float = 1.0) -> dict[str, np.ndarray]:
    """Float32 weights, and int64 zeros for batch counters.

    pixels   root mean square of what the stem is fed: 1 for normalised pixels, about 60 where only the mean is taken
    """
    return {name: _array(name, tuple(shape), seed, pixels) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...], seed: int, pixels: float) -> np.ndarray:
    if COUNTER.search(name):
        return np.zeros(shape, np.int64)
    centre, spread = _range(name, shape, pixels)
    return np.float32(centre) + np.float32(spread) * uniform(f"{seed}/{name}", shape)


def _range(name: str, shape: tuple[int, ...], pixels: float) -> tuple[float, float]:
    """Middle and half width of the interval that a tensor's entries fill."""
    if len(shape) > 1:
        fan_in = math.prod(shape[1:])
        gain = 1.0 if LINEAR.search(name) else 2.0
        scale = 0.05 if DELTA.search(name) else 1.0 / pixels if shape[1] == 3 else 1.0
        return 0.0, scale * math.sqrt(3.0 * gain / fan_in)
    if VARIANCE.search(name):
        return (4.0, 1.0) if BLOCK.search(name) else (1.0, 0.25)
    if MEAN.search(name) or SHIFT.search(name):
        return 0.0, 0.125
    return 1.0, 0.25


def uniform(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 numbers from -1 to 1, multiples of 2**-23; raw draws of PCG64 never change between versions of numpy."""
    source = np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))
    draws = np.asarray(source.random_raw(math.prod(shape)), np.uint64) >> np.uint64(40)
    return (draws.astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)).reshape(shape)


def picture(height: int, width: int) -> np.ndarray:
    """A uint8 picture (3, height, width) with something to see at every scale, from one pixel to an eighth of it."""
    total = np.zeros((3, height, width), np.float32)
    cells = (1, 2, 5, 11, 23)
    for cell in cells:
        rows, columns = -(-height // cell), -(-width // cell)
        coarse = uniform(f"picture/{cell}", (3, rows, columns))
        total += coarse.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    return np.clip(128 + total * 60, 0, 255).astype(np.uint8)
