"""Random numbers that are functions of seed, epoch and sample alone: no worker, process or order changes them."""

import numpy as np
from jaxtyping import Float64, Int64, UInt64


def image_keys(seed: int, epoch: int, num_images: int) -> Int64[np.ndarray, " {num_images}"]:
    """A random number of 63 bits for each sample of an epoch, a function of (seed, epoch, index) alone."""
    start = _mix(_mix(np.array([seed], np.uint64)) + np.uint64(epoch))
    return (_mix(start + np.arange(num_images, dtype=np.uint64)) >> np.uint64(1)).astype(np.int64)


def uniform(keys: Int64[np.ndarray, " n"], stream: int) -> Float64[np.ndarray, " n"]:
    """Independent numbers in [0, 1) for each key and stream."""
    return (_mix(keys.astype(np.uint64) ^ _mix(np.array([stream], np.uint64))) >> np.uint64(11)) * 2.0**-53


def _mix(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """SplitMix64 (Steele, Lea and Flood 2014): neighbouring numbers become unrelated ones; wraps around."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
