"""XML of label files, read piece by piece and without what a document type can make of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from maskrcnn.data.encodings import decoded, read_bytes

DECLARED = re.compile(
    rb"""^\s*<\?xml[^>]{0,100}encoding=["'](windows-\d+|cp\d+|iso-8859-\d+|koi8-r|gbk|gb18030|big5|shift_jis|euc-\w+)["']""",
    re.I,
)
"""A declared encoding other than Unicode's."""
DOCUMENT_TYPE = re.compile(r"<!(DOCTYPE|ENTITY)")
DEEPEST = 16
CHUNK = 1 << 16
"""Characters that are parsed at once."""


def xml_text(path: Path) -> str:
    """The text of an XML file in its encoding. Raises what `read_bytes` does, or ValueError for another one."""
    data = read_bytes(path)
    declared = DECLARED.match(data)
    if declared:
        try:
            return data.decode(declared[1].decode().lower(), "replace")
        except LookupError as error:
            raise ValueError(f"{path} says that its letters are of an {error}; save it as UTF-8") from None
    return decoded(data)[0]


def whole(text: str | None) -> int | None:
    """A whole number of at most nine digits; nothing where a text is something else."""
    return int(text) if text and text.isdecimal() and len(text) < 10 else None


def elements(text: str, path: Path) -> Iterator[Element]:
    """The elements directly below the root, each when it is complete; then it is forgotten.

    Raises ValueError for what is no XML, for a document type, which can define entities that grow without end, and for
    elements within each other that go deeper than any label file.
    """
    if DOCUMENT_TYPE.search(text):
        raise ValueError(f"{path} has a document type (<!DOCTYPE>), which no label file needs; remove it")
    parser: XMLPullParser = XMLPullParser(["start", "end"])
    depth = 0
    root: Element | None = None
    try:
        for start in range(0, len(text), CHUNK):
            parser.feed(text[start : start + CHUNK])
            for found in parser.read_events():
                event, element = cast(tuple[str, Element], found)
                depth += 1 if event == "start" else -1
                if depth > DEEPEST:
                    raise ValueError(f"{path} has more than {DEEPEST} elements within each other; it is no label file")
                root = element if root is None else root
                if event == "end" and depth == 1:
                    yield element
                    root.clear()
        parser.close()
    except ParseError as error:
        raise ValueError(f"{path} is no XML ({error}); restore it") from None
