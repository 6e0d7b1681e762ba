"""What outlines reach: the box around each object's rings."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int64, Integer
from numpy import ndarray

from maskrcnn.kernels import kernel


def bounds(
    points: Float32[ndarray, "V 2"], lengths: Integer[ndarray, " R"], owners: Int64[ndarray, " R"], num: int
) -> Float32[ndarray, "num 4"]:
    """The least and the greatest x and y (x1, y1, x2, y2) of the rings of each owner; infinite where it has none.

    lengths   points of each ring; the rings follow one another
    owners    whose each ring is, from 0 to num - 1
    """
    found = np.empty((num, 4), np.float32)
    found[:, :2], found[:, 2:] = np.inf, -np.inf
    _widen(points, lengths, owners, found)
    return found


@kernel()
@no_type_check
def _widen(points, lengths, owners, found):
    start = 0
    for ring in range(len(lengths)):
        box = found[owners[ring]]
        for k in range(start, start + lengths[ring]):
            x, y = points[k, 0], points[k, 1]
            box[0], box[1] = min(box[0], x), min(box[1], y)
            box[2], box[3] = max(box[2], x), max(box[3], y)
        start += lengths[ring]
