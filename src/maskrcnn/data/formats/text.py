"""Text of label files, in whatever code page a tool wrote it."""

from pathlib import Path

from maskrcnn.data.faults import Faults, Kind, Severity

MOST = 1 << 30
"""Bytes of the largest label file that is read."""
BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
ODD_TEXT = Kind("text-not-utf-8", "files", Severity.NOTE, "are UTF-16 or begin with a byte order mark and were read")
CODE_PAGE = Kind(
    "text-code-page",
    "files",
    Severity.WARNING,
    "are not UTF-8 and were read as Windows-1252; if names come out wrong, save them as UTF-8",
    "writes UTF-8",
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
    """The bytes of a small file. Raises OSError, or ValueError for more than `MOST`: one sentence with its name."""
    try:
        length = path.stat().st_size
        if length > MOST:
            raise ValueError(f"{path} has {length} bytes, but a label file has at most {MOST}; is it one?")
        return path.read_bytes()
    except OSError as error:
        raise type(error)(f"the file {path} cannot be read ({error.strerror}); restore or remove it") from None


def decoded(data: bytes) -> tuple[str, Kind | None]:
    r"""Text, and what was odd about its letters.

    >>> [decoded("K\u00e4fer".encode(page))[0] == "K\u00e4fer" for page in ("utf-8", "utf-16", "utf-16-be", "cp1252")]
    [True, True, True, True]
    """
    for bom, encoding in BOMS.items():
        if data.startswith(bom):
            return data.decode(encoding, "replace"), ODD_TEXT
    if data[1:2] == b"\0" or (data[:1] == b"\0" and data[1:2]):
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace"), ODD_TEXT
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), CODE_PAGE
