"""Objects painted into one image of numbers, where each pixel belongs to one at most."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt32

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.formats.losses import Losses
from maskrcnn.masks import bitmap_from_rings, window_of


def paint(
    data: Dataset, image: int, objects: Iterable[int], losses: Losses, numbers: Sequence[int] | None = None
) -> UInt32[np.ndarray, "h w"]:
    """An image in which the pixels of objects have their numbers: 1, 2, ... in the given order, or `numbers`.

    Larger objects are painted first, so that smaller ones lie on top of them. Other pixels are 0.
    """
    height, width = data.sizes[image].tolist()
    ids = np.zeros((height, width), np.uint32)
    masks = []
    for place, index in enumerate(objects):
        top, left, bottom, right = window = window_of(data.outline(index), height, width)
        mask = bitmap_from_rings(data.outline(index), window)
        masks.append((int(mask.sum()), numbers[place] if numbers else place + 1, ids[top:bottom, left:right], mask))
        losses.add("objects without an outline are written as their box", bool(data.flags[index] & Flag.NO_OUTLINE))
    masks.sort(key=lambda one: -one[0])
    for _, number, window_ids, mask in masks:
        window_ids[mask] = number
    for area, number, window_ids, mask in masks:
        lost = area - int((window_ids[mask] == number).sum())
        losses.add("objects have no pixel of their own and are gone", lost == area)
        if lost < area:
            losses.add("objects lie in part under a smaller one, which gets the pixels of both", lost > 0)
            losses.add("pixels of theirs are gone", lost)
    return ids
