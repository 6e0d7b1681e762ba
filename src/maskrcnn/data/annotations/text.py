"""The text of an annotation file as JSON in UTF-8, in whichever encoding a program saved it."""

import codecs
from typing import no_type_check

import numpy as np

from maskrcnn.data.annotations.json_values import BACKSLASH, MINUS, QUOTE
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.kernels import kernel

MARKED = Kind(
    "byte-order-mark",
    "files",
    Severity.NOTE,
    "begin with a byte order mark, which JSON does not allow; it is passed over",
    "it is left out",
)
WIDE = Kind("not-utf-8", "files", Severity.NOTE, "are UTF-16 or UTF-32, not UTF-8; they are read", "UTF-8 is written")
CODE_PAGE = Kind(
    "code-page",
    "files",
    Severity.WARNING,
    "are not UTF-8 and are read as Windows-1252: look at names with accents",
    "UTF-8 is written",
)
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the mark of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ZEROS = {"0001": "utf-32-be", "1000": "utf-32-le", "0101": "utf-16-be", "1010": "utf-16-le"}
"""Encodings without a mark by which of the first four bytes are zero, as JSON begins with two ASCII characters."""
CAPITAL_I, CAPITAL_N, SMALL_A, SMALL_Z, CASE = b"INaz "
BLOCK = 1 << 20
"""Bytes whose encoding is checked at once."""


def as_utf8(text: bytes, faults: Faults) -> bytes:
    """The same text in UTF-8 without a byte order mark. Raises ValueError where it has no encoding that is known."""
    if text.startswith(codecs.BOM_UTF8):
        faults.add(MARKED, count=1)
        text = text[len(codecs.BOM_UTF8) :]
    encoding = next((name for mark, name in MARKS if text.startswith(mark)), _by_zeros(text))
    if encoding:
        faults.add(WIDE, count=1)
    elif not _is_utf8(text):
        faults.add(CODE_PAGE, count=1)
        encoding = "cp1252"
    try:
        return text.decode(encoding).encode() if encoding else text
    except UnicodeError as error:
        raise ValueError(f"the text is not {encoding}, as which it begins ({error}); save it as UTF-8") from None


def quote_non_finite(text: bytes) -> bytes:
    """Put NaN and Infinity, which Python writes and JSON does not know, into quotation marks."""
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


def _by_zeros(text: bytes) -> str | None:
    return ZEROS.get("".join("1" if byte else "0" for byte in text[:4]))


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(text), BLOCK):
            decoder.decode(text[start : start + BLOCK], final=start + BLOCK >= len(text))
    except UnicodeDecodeError:
        return False
    return True
