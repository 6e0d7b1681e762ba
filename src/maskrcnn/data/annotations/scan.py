"""Annotations from their text into arrays, without an object of Python for any number.

Nearly all of an annotation file is digits, and a parser that makes objects of them takes ten times as long. The text is
known to be JSON. Whatever the kernels do not understand at once (other spellings, run lengths, mistakes, numbers of
more than 18 digits) they leave to the parser, which also says what is wrong.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from maskrcnn.data.annotations.json_values import (
    BACKSLASH,
    COMMA,
    LEFT_BRACE,
    LEFT_BRACKET,
    LETTER_N,
    QUOTE,
    RIGHT_BRACE,
    RIGHT_BRACKET,
    read_decimal,
    read_flag,
    read_whole,
    read_wholes,
    skip_blanks,
    skip_string,
    skip_value,
)
from maskrcnn.kernels import kernel
from maskrcnn.masks.coordinates import narrow

LEAST = 6
"""Numbers of a polygon of three points."""
_KEYS = (
    *(b"id", b"bbox", b"iscrowd", b"image_id", b"category_id", b"segmentation", b"area"),
    *(b"keypoints", b"num_keypoints", b"size", b"counts"),
)
_ID, _BBOX, _ISCROWD, _IMAGE_ID, _CATEGORY_ID, _SEGMENTATION, _AREA = range(7)
_SIZE, _COUNTS, _OTHER = range(len(_KEYS) - 2, len(_KEYS) + 1)
_NEEDED = 1 << _IMAGE_ID | 1 << _CATEGORY_ID
_LENGTHS = np.array([len(key) for key in _KEYS])
_LETTERS = np.array([list(key.ljust(max(map(len, _KEYS)))) for key in _KEYS], np.uint8)


class Scanned(NamedTuple):
    """Some annotations in the order of their text."""

    ids: Int64[np.ndarray, " n"]
    image_ids: Int64[np.ndarray, " n"]
    category_ids: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 4"]
    """x, y, width, height."""
    areas: Float64[np.ndarray, " n"]
    """NaN where none is stated."""
    crowd: Bool[np.ndarray, " n"]
    segmentations: Int64[np.ndarray, "n 2"]
    """Where the text of each begins and ends; nothing where there is none."""
    num_short: Int64[np.ndarray, " n"]
    """Polygons of fewer than three points, left out."""
    points: Float32[np.ndarray, "V 2"]
    first: Int32[np.ndarray, " R+1"]
    """Polygon r is points[first[r] : first[r + 1]]."""
    owners: Int64[np.ndarray, " R"]
    """Row of the annotation that each polygon belongs to, ascending."""
    others: UInt8[np.ndarray, " L"]
    """Fields of other names: an object of JSON for each annotation that has some."""
    first_other: Int64[np.ndarray, " n+1"]
    """Other fields of annotation k are others[first_other[k] : first_other[k + 1]]."""
    has_id: Bool[np.ndarray, " n"]
    has_box: Bool[np.ndarray, " n"]
    """Zeros stand in the place of an id or a box that is not stated."""
    strange: Bool[np.ndarray, " n"]
    """Nothing of them is told here."""
    strange_outline: Bool[np.ndarray, " n"]
    """All but their polygons is told."""


def scan(text: UInt8[np.ndarray, " T"], stops: Int64[np.ndarray, " n"]) -> Scanned:
    """Annotations, each an object of JSON, that follow one another, each up to its stop. Releases the GIL."""
    n = len(stops)
    whole, crowd = np.zeros((3, n), np.int64), np.zeros(n, bool)
    boxes, areas = np.zeros((n, 4)), np.full(n, np.nan)
    segmentations, num_short, strange = np.zeros((n, 2), np.int64), np.zeros(n, np.int64), np.zeros((2, n), bool)
    numbers = np.empty(len(text) // 2 + 1, np.float32)  # each takes a character and what parts it from the next
    first = np.zeros(len(text) // (2 * LEAST) + 1, np.int32)
    owners = np.empty(len(first) - 1, np.int64)
    others, first_other = np.empty(len(text), np.uint8), np.zeros(n + 1, np.int64)
    keys = np.zeros(n, np.int64)
    fields = whole, boxes, areas, crowd, segmentations, others, keys
    num = _scan(text, stops, fields, num_short, strange, numbers, first, owners, first_other)
    points = numbers[: 2 * first[num]].reshape(-1, 2).copy()
    ids, image_ids, category_ids = whole
    return Scanned(
        ids=ids,
        image_ids=image_ids,
        category_ids=category_ids,
        boxes=boxes,
        areas=areas,
        crowd=crowd,
        segmentations=segmentations,
        num_short=num_short,
        points=points,
        first=first[: num + 1].copy(),
        owners=owners[:num].copy(),
        others=others[: first_other[n]].copy(),
        first_other=first_other,
        has_id=keys >> _ID & 1 != 0,
        has_box=keys >> _BBOX & 1 != 0,
        strange=strange[0],
        strange_outline=strange[1],
    )


def scan_runs(text: UInt8[np.ndarray, " T"]) -> tuple[tuple[int, int], Int64[np.ndarray, " n"]] | None:
    """The size and the counts of run lengths, an object of JSON; nothing where they are not understood."""
    size, counts = np.zeros(2, np.int64), np.empty(len(text) // 2, np.int64)
    num = _scan_runs(text, size, counts)
    return ((int(size[0]), int(size[1])), counts[:num].copy()) if num else None


@kernel()
@no_type_check
def _scan(text, stops, fields, num_short, strange, numbers, first, owners, first_other):
    """Fill the arrays; gives the number of polygons."""
    start = num_rings = np.int64(0)  # of the type that they will have: a kernel is compiled for each
    for row in range(len(stops)):
        rings, num_short[row], understood, strange[1, row], end = _scan_row(
            text, start, row, fields, numbers, first, num_rings, first_other[row]
        )
        strange[0, row], first_other[row + 1] = not understood, first_other[row]
        if understood:
            first_other[row + 1] = end
            for ring in range(num_rings, rings):
                owners[ring] = row
            num_rings = rings
        start = stops[row]
    return num_rings


@kernel()
@no_type_check
def _scan_row(text, offset, row, fields, numbers, first, num_rings, end):
    """(rings so far, polygons left out, whether all was understood but the polygons, whether these were not, end).

    end   of the fields of other names, before and after
    """
    whole, boxes, areas, crowd, segmentations, others, keys = fields
    nothing, start = (num_rings, 0, False, False, end), end
    if text[offset] != LEFT_BRACE:
        return nothing
    # One pass over `{"key": value, ...}`: at the start of each turn `offset` is at the brace or at a comma.
    seen, rings, num_short, strange_outline = 0, num_rings, 0, False
    while text[offset] != RIGHT_BRACE:
        offset = skip_blanks(text, offset + 1)
        if text[offset] != QUOTE:
            return nothing
        begin = offset + 1
        offset = skip_string(text, offset)
        key = _find_key(text, begin, offset - 1)
        if key < 0:
            return nothing
        # Past the colon. An annotation with one of our keys twice is left to the parser; others may repeat.
        offset = skip_blanks(text, skip_blanks(text, offset) + 1)
        if seen >> key & 1:
            return nothing
        seen |= 1 << key & ~(1 << _OTHER)
        # Its value, straight into the arrays: a row that turns out not to be understood is overwritten by the parser's.
        understood = True
        if key == _ID:
            whole[0, row], offset, understood = read_whole(text, offset)
        elif key == _IMAGE_ID:
            whole[1, row], offset, understood = read_whole(text, offset)
        elif key == _CATEGORY_ID:
            whole[2, row], offset, understood = read_whole(text, offset)
        elif key == _ISCROWD:
            crowd[row], offset, understood = read_flag(text, offset)
        elif key == _BBOX:
            offset, understood = _read_box(text, offset, boxes, row)
        elif key == _AREA:
            areas[row], offset, understood = read_decimal(text, offset)
        elif key == _SEGMENTATION:
            rings, num_short, offset, strange_outline = _read_outline(
                text, offset, segmentations[row], numbers, first, num_rings
            )
        else:
            offset = skip_value(text, offset)
            if key >= _SIZE:
                end = _keep_field(text, begin - 1, offset, others, start, end)
        if not understood:
            return nothing
        offset = skip_blanks(text, offset)
    if end > start:
        others[end] = RIGHT_BRACE
        end += 1
    keys[row] = seen
    return rings, num_short, seen & _NEEDED == _NEEDED, strange_outline, end


@kernel()
@no_type_check
def _keep_field(text, begin, stop, others, start, end):
    """Where the fields of other names end, after one more; those of this annotation begin at `start`."""
    others[end] = COMMA if end > start else LEFT_BRACE
    others[end + 1 : end + 1 + stop - begin] = text[begin:stop]
    return end + 1 + stop - begin


@kernel()
@no_type_check
def _scan_runs(text, size, counts):
    """How many counts there are; 0 where they are not understood."""
    num_sizes = num_counts = offset = 0
    while text[offset] == LEFT_BRACE or text[offset] == COMMA:
        begin = skip_blanks(text, offset + 1)
        if text[begin] != QUOTE:
            break
        offset = skip_string(text, begin)
        key = _find_key(text, begin + 1, offset - 1)
        offset = skip_blanks(text, skip_blanks(text, offset) + 1)
        if key == _SIZE and num_sizes == 0:
            num_sizes, offset, understood = read_wholes(text, offset, size)
        elif key == _COUNTS and num_counts == 0:
            num_counts, offset, understood = read_wholes(text, offset, counts)
        else:
            understood = False
        if not understood:
            break
        offset = skip_blanks(text, offset)
    return num_counts if num_sizes == 2 and text[offset] == RIGHT_BRACE else 0


@kernel()
@no_type_check
def _find_key(text, begin, stop):
    """Its number; -1 for one that is spelt with escapes."""
    # Lengths first: few of the keys that are known share one.
    for key in range(len(_LENGTHS)):
        if _LENGTHS[key] == stop - begin:
            same = 0
            while same < stop - begin and text[begin + same] == _LETTERS[key, same]:
                same += 1
            if same == stop - begin:
                return key
    # An escape may spell a key that is known, such as `\u0069d`.
    for k in range(begin, stop):
        if text[k] == BACKSLASH:
            return -1
    return _OTHER


@kernel()
@no_type_check
def _read_box(text, offset, boxes, row):
    """(where a list of x, y, width and height ends, whether it was understood)."""
    if text[offset] != LEFT_BRACKET:
        return offset, False
    x, offset, x_understood = read_decimal(text, skip_blanks(text, offset + 1))
    y, offset, y_understood = _read_next(text, offset)
    width, offset, width_understood = _read_next(text, offset)
    height, offset, height_understood = _read_next(text, offset)
    offset = skip_blanks(text, offset)
    boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3] = x, y, width, height
    understood = x_understood and y_understood and width_understood and height_understood
    return offset + 1, understood and text[offset] == RIGHT_BRACKET


@kernel()
@no_type_check
def _read_next(text, offset):
    """The number behind a comma, as `read_decimal` gives it."""
    offset = skip_blanks(text, offset)
    if text[offset] != COMMA:
        return 0.0, offset, False
    return read_decimal(text, skip_blanks(text, offset + 1))


@kernel()
@no_type_check
def _read_outline(text, offset, segmentation, numbers, first, num_rings):
    """(rings so far, polygons left out, where the outline ends, whether it was not understood).

    Run lengths and mistakes are not: what was read of the polygons is forgotten, the rest of the annotation is read all
    the same, and where the text lies is noted for whoever decodes it.
    """
    segmentation[0] = offset
    rings, num_short, offset, understood = _read_polygons(text, offset, numbers, first, num_rings)
    if not understood:
        rings, num_short, offset = num_rings, 0, skip_value(text, segmentation[0])
    segmentation[1] = offset
    return rings, num_short, offset, not understood


@kernel()
@no_type_check
def _read_polygons(text, offset, numbers, first, num_rings):
    """(rings so far, polygons left out, where they end, whether all was understood) of null or of lists in a list."""
    if text[offset] == LETTER_N:
        return num_rings, 0, offset + len("null"), True
    # Rings follow one another in `numbers`, x and y in turn: `first` counts points, so a ring begins at twice that.
    num_short = 0
    if text[offset] != LEFT_BRACKET:
        return num_rings, 0, offset, False
    offset = skip_blanks(text, offset + 1)
    while text[offset] != RIGHT_BRACKET:
        begin = 2 * first[num_rings]
        end, offset, understood = _read_numbers(text, offset, numbers, begin)
        # An odd number of coordinates is left to the parser. Fewer than three points cover nothing, and what was read
        # of them is overwritten by the next ring.
        if not understood or ((end - begin) % 2 and end - begin > LEAST):
            return num_rings, num_short, offset, False
        if end - begin < LEAST:
            num_short += 1
        else:
            num_rings += 1
            first[num_rings] = end // 2
        offset = skip_blanks(text, offset)
        if text[offset] == COMMA:
            offset = skip_blanks(text, offset + 1)
    return num_rings, num_short, offset + 1, True


@kernel()
@no_type_check
def _read_numbers(text, offset, numbers, end):
    """(how many numbers there are now, where their list ends, whether it was understood)."""
    if text[offset] != LEFT_BRACKET:
        return end, offset, False
    offset = skip_blanks(text, offset + 1)
    while text[offset] != RIGHT_BRACKET:
        value, offset, understood = read_decimal(text, offset)
        if not understood:
            return end, offset, False
        numbers[end] = narrow(value)
        end += 1
        if text[offset] != COMMA:
            offset = skip_blanks(text, offset)
        if text[offset] == COMMA:
            offset = skip_blanks(text, offset + 1)
    return end, offset + 1, True
