"""Objects painted into one image of numbers, where each pixel belongs to one at most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt32

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.masks import bitmap_from_rings, window_of


@dataclass
class Losses:
    """What images of numbers could not keep, over all that were painted."""

    covered: int = 0
    """Objects of which a part lies under another one."""
    pixels: int = 0
    """Pixels of theirs that went to the other."""
    vanished: int = 0
    """Objects of which nothing is left."""
    boxes: int = 0
    """Objects that had no outline, and were painted as their boxes."""

    def sentences(self) -> list[str]:
        """What was lost, for people."""
        found = []
        if self.covered:
            found.append(
                f"{self.covered} objects overlap smaller ones, which a pixel of one number cannot say; the smaller lies "
                f"on top: {self.pixels} pixels were lost"
            )
        if self.vanished:
            found.append(f"{self.vanished} objects have no pixel of their own and are gone")
        if self.boxes:
            found.append(f"{self.boxes} objects without an outline were written as their boxes")
        return found


def paint(
    data: Dataset, image: int, objects: Sequence[int], losses: Losses, values: Sequence[int] | None = None
) -> UInt32[np.ndarray, "h w"]:
    """An image in which pixels of objects have their numbers: 1, 2, ... in the given order, or `values`; 0 elsewhere.

    Larger objects are painted first, so that smaller ones lie on top of them.
    """
    height, width = data.sizes[image].tolist()
    ids = np.zeros((height, width), np.uint32)
    masks = []
    for number, index in zip(values or range(1, len(objects) + 1), objects, strict=True):
        top, left, bottom, right = window = window_of(data.outline(index), height, width)
        mask = bitmap_from_rings(data.outline(index), window)
        masks.append((int(mask.sum()), number, ids[top:bottom, left:right], mask))
        losses.boxes += bool(data.flags[index] & Flag.NO_OUTLINE)
    masks.sort(key=lambda one: -one[0])
    for _, number, window_ids, mask in masks:
        window_ids[mask] = number
    for area, number, window_ids, mask in masks:
        lost = area - int((window_ids[mask] == number).sum())
        losses.vanished += lost == area
        losses.covered += 0 < lost < area
        losses.pixels += lost if lost < area else 0
    return ids
