"""Polygon coordinates in float32 that COCO's evaluation sees as the numbers of the file.

COCO draws polygons on a grid of fifths of a pixel: of a coordinate x only the cell trunc(5 x + 0.5) counts, computed
from the file's decimal. A bare float32 falls into another cell now and then (0.7 does), so here it stands for the
shortest decimal that rounds to it. `narrow` moves a number by one last bit where even that one lies in another cell.
Source of the grid: rleFrPoly in pycocotools' maskApi.c.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from maskrcnn.kernels import kernel

_TENS = 10.0 ** np.arange(7)
_LAST_BIT = 2.0**-23
_FAR = 2.0**20  # from here on neighbouring float32 numbers are about as far apart as cells


def narrowed(values: Float64[ndarray, " N"]) -> Float32[ndarray, " N"]:
    """Numbers of a file as float32; those beyond its range become infinite, and NaN passes through."""
    return _narrow_all(values)


def decimals(points: Float32[ndarray, "V 2"]) -> Float64[ndarray, "V 2"]:
    """The shortest decimals, of at most six places, that round to these numbers; what has none stays as it is."""
    return _shortest_of_all(points)


@kernel()
@no_type_check
def narrow(value):
    near = np.float32(value)
    distance = abs(value) * _LAST_BIT
    if not abs(value) < _FAR or _cell(value - distance) == _cell(value + distance):
        return near
    cell, found = _cell(value), _cell(_shortest(near))
    if cell == found:
        return near
    return np.nextafter(near, np.float32(np.inf if cell > found else -np.inf))


@kernel()
@no_type_check
def _narrow_all(values):
    narrow_values = np.empty(len(values), np.float32)
    for i in range(len(values)):
        narrow_values[i] = narrow(values[i])
    return narrow_values


@kernel()
@no_type_check
def _shortest_of_all(points):
    found = np.empty(points.shape, np.float64)
    for i in range(len(points)):
        for axis in range(2):
            found[i, axis] = _shortest(points[i, axis])
    return found


@kernel()
@no_type_check
def _shortest(number):
    value = np.float64(number)
    for tens in _TENS:
        decimal = np.floor(value * tens + 0.5) / tens
        if np.float32(decimal) == number:
            return decimal
    return value


@kernel()
@no_type_check
def _cell(value):
    return np.trunc(5 * value + 0.5)
