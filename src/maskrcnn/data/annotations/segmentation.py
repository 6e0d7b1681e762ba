"""One `segmentation` of an annotation file that the scan does not understand, as rings."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Int64
from msgspec import Struct

from maskrcnn.data.annotations.scan import LEAST, scan_runs
from maskrcnn.data.annotations.spelling import decimal, from_bytes, whole
from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Kind, Severity
from maskrcnn.masks import Rings, counts_from_string, rings_from_counts, rings_from_polygons

FLAT = Kind(
    "flat-outline",
    "objects",
    Severity.NOTE,
    "have an outline that is not put into a list; it is read as one polygon",
    "it is put into a list",
)
POINTS = Kind(
    "outline-of-points",
    "objects",
    Severity.NOTE,
    "have an outline of points [x, y] instead of one row of numbers; it is read",
    "its numbers are put into a row",
)
TEXT_OUTLINE = Kind(
    "outline-as-text",
    "objects",
    Severity.NOTE,
    "have an outline or run lengths with numbers written as text or decimals, which can be read",
    "they are written as numbers",
)
BYTES_OUTLINE = Kind(
    "run-lengths-as-bytes",
    "objects",
    Severity.NOTE,
    "have run lengths with Python's b'...' around, which is taken off",
    "they are written without",
)
BAD_SEGMENTATION = Kind(
    "unreadable-segmentation",
    "objects",
    Severity.REFUSED,
    "have a segmentation that is neither polygons nor run lengths",
    "they are left out",
)
BAD_OUTLINE = Kind("malformed-outline", "objects", Severity.REFUSED, "have a malformed outline", "they are left out")
BAD_RUNS = Kind("malformed-run-lengths", "objects", Severity.REFUSED, "have malformed run lengths", "they are left out")
OTHER_SIZE = Kind(
    "run-lengths-of-another-size",
    "objects",
    Severity.REFUSED,
    "have run lengths of another size than their image's",
    "they are left out",
)


class Unusable(ValueError):
    """Says what is wrong with one annotation, after its name."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class Segmentation(NamedTuple):
    """The rings of one object."""

    rings: Rings
    flag: Flag
    spelt: set[Kind]
    """How it is written otherwise than COCO does."""


class _RunLengths(Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


_Value = list[list[float]] | _RunLengths | None
_values = msgspec.json.Decoder(_Value)


def read_segmentation(text: bytes | msgspec.Raw, size: Int64[np.ndarray, "2"]) -> Segmentation:
    """The rings of any segmentation in an image of (height, width). Raises Unusable."""
    runs = scan_runs(np.frombuffer(text, np.uint8))
    if runs is not None:
        return Segmentation(_run_length_rings(*runs, size), Flag.RUN_LENGTHS, set())
    value, spelt = _decode(text)
    if isinstance(value, _RunLengths):
        return Segmentation(_run_length_rings(value.size, value.counts, size), Flag.RUN_LENGTHS, spelt)
    if value and all(len(row) == 2 for row in value) and len(value) >= LEAST // 2:
        value, spelt = [[number for row in value for number in row]], spelt | {POINTS}
    polygons = [polygon for polygon in value or () if len(polygon) >= LEAST]
    flag = Flag(0) if len(polygons) == len(value or ()) else Flag.SHORT_POLYGON
    return Segmentation(_polygon_rings(polygons), flag, spelt)


def _decode(text: bytes | msgspec.Raw) -> tuple[_Value, set[Kind]]:
    """A segmentation, and how it is written otherwise."""
    try:
        value = _values.decode(text)
    except msgspec.DecodeError as error:
        complaint = str(error)
    else:
        return _without_quotes(value) if isinstance(value, _RunLengths) else (value, set())
    try:
        value, spelt = _mend(msgspec.json.decode(text))
        return msgspec.convert(value, _Value), spelt
    except (msgspec.DecodeError, OverflowError):
        raise Unusable(
            BAD_SEGMENTATION,
            f"has a segmentation that is neither polygons nor run lengths ({complaint}); correct or remove it",
        ) from None


def _without_quotes(runs: _RunLengths) -> tuple[_RunLengths, set[Kind]]:
    counts = from_bytes(runs.counts)
    return (runs, set()) if counts is runs.counts else (_RunLengths(runs.size, counts), {BYTES_OUTLINE})


def _mend(value: Any) -> tuple[Any, set[Kind]]:
    """A segmentation in COCO's spelling, and what was changed."""
    if value in ({}, "", False):
        return None, set()
    if isinstance(value, dict):
        return _mend_runs(value)
    if not isinstance(value, list):
        return value, set()
    spelt: set[Kind] = set()
    if not any(isinstance(row, list) for row in value):
        value, spelt = [value], {FLAT}
    if any(isinstance(number, list) for row in value if isinstance(row, list) for number in row):
        value, spelt = [_joined(row) for row in value], spelt | {POINTS}
    numbers = [_numbers(row) for row in value]
    return numbers, spelt | ({TEXT_OUTLINE} if numbers != value else set())


def _mend_runs(value: dict[str, Any]) -> tuple[dict[str, Any], set[Kind]]:
    size, counts = _numbers(value.get("size"), whole), from_bytes(value.get("counts"))
    spelt = {BYTES_OUTLINE} if counts != value.get("counts") else set()
    mended = {"size": size, "counts": _numbers(counts, whole)}
    is_text = repr(mended["size"]) != repr(value.get("size")) or repr(mended["counts"]) != repr(counts)
    return mended, spelt | ({TEXT_OUTLINE} if is_text else set())


def _numbers(row: Any, read: Any = decimal) -> Any:
    return [read(number) for number in row] if isinstance(row, list) else row


def _joined(row: Any) -> Any:
    """The numbers of points in one row, where there are pairs and nothing else."""
    is_points = isinstance(row, list) and all(isinstance(point, list) and len(point) == 2 for point in row)
    return [number for point in row for number in point] if is_points else row


def _polygon_rings(polygons: Sequence[Sequence[float]]) -> Rings:
    try:
        return rings_from_polygons(polygons)
    except ValueError as error:
        complaint = str(error)
    if not all(map(math.isfinite, chain.from_iterable(polygons))):
        raise Unusable(BAD_OUTLINE, "holds a number that is NaN or infinite; correct or remove it")
    raise Unusable(BAD_OUTLINE, f"has a malformed outline ({complaint}); correct or remove it")


def _run_length_rings(
    stated: tuple[int, int], counts: str | list[int] | Int64[np.ndarray, " n"], size: Int64[np.ndarray, "2"]
) -> Rings:
    height, width = size.tolist()
    if stated != (height, width):
        raise Unusable(
            OTHER_SIZE,
            f"has run lengths for (height, width) {stated} but the image is {(height, width)}; "
            "encode the mask at the image's size",
        )
    try:
        runs = counts_from_string(counts) if isinstance(counts, str) else counts
        return rings_from_counts(runs, height, width)
    except ValueError as error:
        raise Unusable(BAD_RUNS, f"has malformed run lengths ({error}); correct or remove it") from None
