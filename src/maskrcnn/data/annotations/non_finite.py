"""NaN and Infinity in annotation files, which Python writes and JSON does not know."""

from typing import no_type_check

import numpy as np

from maskrcnn.data.annotations.json_values import BACKSLASH, MINUS, QUOTE
from maskrcnn.kernels import kernel

CAPITAL_I, CAPITAL_N, SMALL_A, SMALL_Z, CASE = b"INaz "


def quote_non_finite(text: bytes) -> bytes:
    """Put NaN and Infinity into quotation marks."""
    out = np.empty(len(text) + 2 * (text.count(b"N") + text.count(b"I")), np.uint8)
    return out[: _quote_words(np.frombuffer(text, np.uint8), out)].tobytes()


@kernel()
@no_type_check
def _quote_words(text, out):
    """Copy text, with quotation marks around words that begin with N or I outside of strings; gives its length."""
    offset = end = 0
    is_inside = False
    while offset < len(text):
        character = text[offset]
        is_word = character in (CAPITAL_N, CAPITAL_I) or (
            character == MINUS and offset + 1 < len(text) and text[offset + 1] == CAPITAL_I
        )
        if is_word and not is_inside:
            out[end] = QUOTE
            end += 1
            while offset < len(text) and (text[offset] == MINUS or SMALL_A <= text[offset] | CASE <= SMALL_Z):
                out[end] = text[offset]
                offset, end = offset + 1, end + 1
            out[end] = QUOTE
            end += 1
            continue
        if character == QUOTE:
            is_inside = not is_inside
        elif character == BACKSLASH and is_inside and offset + 1 < len(text):
            out[end] = character
            offset, end = offset + 1, end + 1
        out[end] = text[offset]
        offset, end = offset + 1, end + 1
    return end
