"""Lines of YOLO label files: a class number, then a box or an outline, in parts of the image's width and height."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from maskrcnn.data.faults import Faults, Kind, Severity

FAR = 0.5
"""Parts of a side beyond the image up to which a coordinate is cut off at its border; further out it is in pixels."""
CLIPPED = Kind(
    "yolo-outside", "lines", Severity.WARNING, "reach out of their image and are cut off at its border", "they are cut"
)
PIXELS = Kind("yolo-pixels", "lines", Severity.REFUSED, "are not in 0..1", "they are left out")
BROKEN = Kind("yolo-line", "lines", Severity.REFUSED, "cannot be read", "they are left out")
CONFIDENCE = Kind("yolo-confidence", "lines", Severity.NOTE, "end with a confidence, which is kept as `score`")
BOX = 5
"""Numbers of a line that is a box; an outline has more, and always an odd number."""


class Line(NamedTuple):
    """One object."""

    number: int
    """Number of the class, from 0."""
    box: Float64[ndarray, "4"] | None
    """x1, y1, x2, y2 in 0..1, where it is no outline."""
    ring: Float64[ndarray, "_ 2"] | None
    score: float | None


def read_lines(text: str, who: str, faults: Faults) -> Iterator[Line]:
    """The objects of a label file; what cannot be used is reported and left out.

    who   the file's name
    """
    for row, words in enumerate(map(str.split, text.splitlines()), 1):
        if words:
            line = _read(words, f"{who} line {row}", faults)
            if line is not None:
                yield line


def looks_like(text: str) -> bool:
    """Whether a text begins as a label file does."""
    words = text.partition("\n")[0].split()
    if len(words) < BOX or not words[0].isdecimal():
        return False
    try:
        return all(math.isfinite(float(word)) for word in words[:64])
    except ValueError:
        return False


def _read(words: list[str], who: str, faults: Faults) -> Line | None:
    try:
        numbers = np.array(words, np.float64)
    except ValueError:
        numbers = np.array([math.nan])
    count = len(numbers)
    if count < BOX or not np.isfinite(numbers).all() or numbers[0] % 1 or not 0 <= numbers[0] < 1 << 31:
        expected = "a class number from 0 and 4 numbers of a box, or x and y of 3 points and more"
        faults.add(BROKEN, who, f"{who}: expected {expected}, received {' '.join(words)[:60]!r}; correct or remove it")
        return None
    score = None
    if count % 2 == 0:
        score, numbers = float(numbers[-1]), numbers[:-1]
        faults.add(CONFIDENCE, who)
    values = _corners(numbers[1:]) if len(numbers) == BOX else numbers[1:]
    if (np.abs(values - 0.5) > 0.5 + FAR).any():
        worst = values[np.abs(values - 0.5).argmax()]
        faults.add(PIXELS, who, f"{who}: expected parts of the image's sides from 0 to 1, received {worst:g}; divide "
                   "pixels by the image's width and height")  # fmt: skip
        return None
    if (np.abs(values - 0.5) > 0.5 + 1e-6).any():
        faults.add(CLIPPED, who)
    values = values.clip(0, 1)
    is_box = len(numbers) == BOX
    return Line(int(numbers[0]), values if is_box else None, None if is_box else values.reshape(-1, 2), score)


def _corners(box: Float64[ndarray, "4"]) -> Float64[ndarray, "4"]:
    middle, half = box[:2], box[2:] / 2
    return np.concatenate([middle - half, middle + half])
