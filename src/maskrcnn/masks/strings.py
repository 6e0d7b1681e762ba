"""COCO's compressed run lengths: 5 bits a character, lowest first, as differences to the run two before."""

from itertools import pairwise
from typing import no_type_check

import numpy as np
from jaxtyping import Integer, UInt32
from numpy import ndarray
from numpy.typing import ArrayLike

from maskrcnn.kernels import kernel
from maskrcnn.masks.counts import unsigned

_MAX_LENGTH = 7  # characters of one run: 33 bits (an unsigned count or the difference of two), 5 in each

GOOD, _BAD_CHARACTER, _CUT_OFF, _OUT_OF_RANGE = 0, 1, 2, 3
_STRING_FAULTS = {
    _BAD_CHARACTER: "the characters '0' to 'o' are allowed",
    _CUT_OFF: "the string ends within a run",
    _OUT_OF_RANGE: "the run that ends there is negative or larger than 2**32 - 1",
}


def counts_from_string(string: str | bytes) -> UInt32[ndarray, " N"]:
    """Decode one mask. Raises ValueError for a character, a length or a run that no encoder writes."""
    data = string.encode("utf-8", "surrogatepass") if isinstance(string, str) else string
    counts = np.empty(len(data), np.uint32)
    num_counts, offset, fault = decode_counts(np.frombuffer(data, np.uint8), counts)
    if fault != GOOD:
        raise ValueError(
            f"expected COCO's compressed run lengths, received a string of {len(data)} characters that is malformed "
            f"at {offset}: {_STRING_FAULTS[fault]}; write the annotation's mask anew"
        )
    return counts[:num_counts].copy()


def string_from_counts(counts: ArrayLike) -> str:
    """Encode one mask."""
    runs = unsigned(counts)
    return strings_from_counts(runs, np.array([len(runs)]))[0]


def strings_from_counts(counts: Integer[ndarray, " N"], stops: Integer[ndarray, " D"]) -> list[str]:
    """Encode many masks: the runs of each follow those of the one before it up to its stop. Releases the GIL."""
    characters, ends = _write_strings(counts, stops)
    text = characters.tobytes().decode("ascii")
    return [text[start:stop] for start, stop in pairwise([0, *ends.tolist()])]


@kernel()
@no_type_check
def decode_counts(characters, counts):
    """(number of runs, offset, fault): the runs that were written to `counts`, where and why decoding stopped."""
    num_counts, value, shift = 0, np.int64(0), 0
    for offset in range(len(characters)):
        bits = np.int64(characters[offset]) - 48
        if bits < 0 or bits > 63:
            return num_counts, offset, _BAD_CHARACTER
        if shift > 5 * (_MAX_LENGTH - 1):
            return num_counts, offset, _OUT_OF_RANGE
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= np.int64(1) << shift
        if num_counts > 2:
            value += np.int64(counts[num_counts - 2])
        if value < 0 or value >= 1 << 32:
            return num_counts, offset, _OUT_OF_RANGE
        counts[num_counts] = value
        num_counts, value, shift = num_counts + 1, np.int64(0), 0
    return num_counts, len(characters), _CUT_OFF if shift else GOOD


@kernel()
@no_type_check
def _write_string(counts, characters):
    """Encode `counts` into `characters`, which has room for _MAX_LENGTH each; returns how many were written."""
    length = 0
    for k in range(len(counts)):
        value = np.int64(counts[k])
        if k > 2:
            value -= np.int64(counts[k - 2])
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            characters[length] = bits + 48 + (32 if more else 0)
            length += 1
    return length


@kernel()
@no_type_check
def _write_strings(counts, stops):
    """(all characters, where each mask's end)."""
    characters = np.empty(_MAX_LENGTH * len(counts), np.uint8)
    ends = np.empty(len(stops), np.int64)
    start = length = 0
    for d in range(len(stops)):
        length += _write_string(counts[start : stops[d]], characters[length:])
        start, ends[d] = stops[d], length
    return characters[:length], ends
