"""Images of a data set in batches of one padded size."""

import numpy as np
import torch
from jaxtyping import Int64

from maskrcnn.config import Data
from maskrcnn.data.buckets import DIVISOR, Bucket, Step, assign, buckets_for, smallest_bucket, whole_views
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.keys import image_keys


def read_bucket(text: str) -> Bucket:
    """`HxW` as numbers.

    >>> read_bucket("800x1344")
    (800, 1344)
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) and int(side) % DIVISOR == 0 for side in sides):
        raise ValueError(f"--bucket: expected HEIGHTxWIDTH in multiples of {DIVISOR}, such as 800x1344, got {text}")
    return int(sides[0]), int(sides[1])


def widest_bucket(settings: Data) -> Bucket:
    """The bucket that holds every image that is wider than high."""
    short = max(settings.short_sides)
    return smallest_bucket(np.array([[short, max(short, settings.max_side)]]))


def full_batches(data: Dataset, settings: Data, bucket: Bucket | None, batch: int) -> list[Step]:
    """Batches of one bucket, the most frequent unless one is given, with images repeated to fill the last.

    Images have the largest short side and are not flipped. Raises ValueError where none fits.
    """
    sides = np.full(len(data.sizes), max(settings.short_sides))
    view = whole_views(data.sizes, sides, settings)
    sizes = view.sizes.numpy()
    bucket, chosen = _most_frequent(data, settings, sizes) if bucket is None else (bucket, _fitting(sizes, bucket))
    if not len(chosen):
        smallest = " x ".join(map(str, sizes[sizes.prod(axis=1).argmin()]))
        raise ValueError(
            f"--bucket: no image of {data.annotations} fits into {bucket[0]}x{bucket[1]}, the smallest of them is "
            f"{smallest}; give a larger one"
        )
    chosen = np.resize(chosen, -(-len(chosen) // batch) * batch)
    keys = image_keys(0, 0, len(chosen))
    parts = zip(chosen.reshape(-1, batch), keys.reshape(-1, batch), strict=True)
    return [Step(bucket, images, view.take(torch.from_numpy(images)), own) for images, own in parts]


def _most_frequent(
    data: Dataset, settings: Data, sizes: Int64[np.ndarray, "n 2"]
) -> tuple[Bucket, Int64[np.ndarray, " m"]]:
    """The bucket of most images, and these."""
    buckets = buckets_for(data.sizes, settings, [max(settings.short_sides)])
    owner = assign(sizes, buckets)
    most = int(np.bincount(owner).argmax())
    return buckets[most], np.flatnonzero(owner == most)


def _fitting(sizes: Int64[np.ndarray, "n 2"], bucket: Bucket) -> Int64[np.ndarray, " m"]:
    return np.flatnonzero((sizes <= np.array(bucket)).all(axis=1))
