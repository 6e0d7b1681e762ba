"""Text of annotation and label files, in whichever encoding a program saved it."""

import codecs
from pathlib import Path

from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.files import SPECIAL, is_special

MOST = 1 << 30
"""Bytes of the largest label file that is read."""
BLOCK = 1 << 20
"""Bytes whose encoding is checked at once."""
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # begins as the mark of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
ZEROS = {"1000": "utf-32-le", "0001": "utf-32-be", "10": "utf-16-le", "01": "utf-16-be"}
"""Encodings without a mark by which of the first bytes are zeros (0): files begin with an ASCII character."""
MARKED = Kind(
    "byte-order-mark",
    "files",
    Severity.NOTE,
    "begin with a byte order mark; it is passed over",
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


def read_text(path: Path, faults: Faults | None = None) -> str:
    """The text of a file; what is odd about its letters is reported.

    Raises what `read_bytes` does.
    """
    text, kind = decoded(read_bytes(path))
    if kind is not None and faults is not None:
        faults.add(kind, path.name)
    return text


def read_bytes(path: Path) -> bytes:
    """The bytes of a label file. Raises OSError, or ValueError for more than `MOST`: one sentence with its name."""
    try:
        if is_special(path):
            raise OSError(None, SPECIAL)
        length = path.stat().st_size
        if length > MOST:
            raise ValueError(f"{path} has {length} bytes, but a label file has at most {MOST}; is it one?")
        return path.read_bytes()
    except OSError as error:
        raise type(error)(f"the file {path} cannot be read ({error.strerror}); restore or remove it") from None


def decoded(data: bytes) -> tuple[str, Kind | None]:
    r"""Text, and what was odd about its letters; bytes that are none are replaced.

    >>> [decoded("K\u00e4fer".encode(page))[0] == "K\u00e4fer" for page in ("utf-8", "utf-16", "utf-16-be", "cp1252")]
    [True, True, True, True]
    """
    encoding, mark = encoding_of(data)
    if encoding != "utf-8":
        return data[len(mark) :].decode(encoding, "replace"), WIDE
    try:
        return data[len(mark) :].decode("utf-8"), MARKED if mark else None
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), CODE_PAGE


def as_utf8(data: bytes, faults: Faults) -> bytes:
    """The same text in UTF-8 without a byte order mark. Raises ValueError where it has no encoding that is known."""
    encoding, mark = encoding_of(data)
    data = data[len(mark) :] if mark else data
    kind = WIDE if encoding != "utf-8" else None if is_utf8(data) else CODE_PAGE
    for met in (MARKED if mark and kind is not WIDE else None, kind):
        if met is not None:
            faults.add(met, count=1)
    if kind is None:
        return data
    encoding = "cp1252" if kind is CODE_PAGE else encoding
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        raise ValueError(f"the text is not {encoding}, as which it begins ({error}); save it as UTF-8") from None


def encoding_of(head: bytes) -> tuple[str, bytes]:
    """(encoding of Unicode in which a file seems to be, its byte order mark), by its first bytes."""
    mark = next((mark for mark in MARKS if head.startswith(mark)), b"")
    if mark:
        return MARKS[mark], mark
    zeros = "".join("1" if byte else "0" for byte in head[:4])
    return ZEROS.get(zeros) or ZEROS.get(zeros[:2], "utf-8"), mark


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8; no text of theirs is kept."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), BLOCK):
            decoder.decode(data[start : start + BLOCK], final=start + BLOCK >= len(data))
    except UnicodeDecodeError:
        return False
    return True
