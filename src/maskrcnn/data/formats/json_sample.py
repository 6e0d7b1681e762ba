"""What a JSON file is about, told from parts of it: an annotation file may have gigabytes, a folder 100,000 of them."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from maskrcnn.data.encodings import encoding_of

WHOLE = 1 << 18
"""Bytes up to which a file is looked at whole."""
BLOCK = 1 << 16
"""Bytes of each part of a longer one."""
PARTS = 5
"""Number of parts: the head, the tail, and some in between."""
CHUNK = 1 << 23


@dataclass(frozen=True)
class JsonSample:
    """Parts of a JSON file as one text, in their order."""

    path: Path
    text: str
    is_whole: bool

    @cached_property
    def is_object(self) -> bool:
        """Whether it begins as an object, not as a list."""
        return self.text[:64].lstrip("\ufeff \t\r\n").startswith("{")

    def says(self, *keys: str) -> bool:
        """Whether one of these keys occurs anywhere."""
        return any(re.search(rf'"{key}"\s*:', self.text) for key in keys)

    def lists(self, key: str) -> bool:
        """Whether this key occurs with a list."""
        return re.search(rf'"{key}"\s*:\s*\[', self.text) is not None

    def texts(self, most: int, *keys: str) -> list[str]:
        """Some of the texts that these keys have, spread over the parts; reads on where no part has one."""
        found = _texts(self.text, keys)
        if not found and not self.is_whole:
            found = _texts(_block_with(self.path, keys), keys)
        step = max(1, len(found) // most)
        return found[::step][:most]


def sample(path: Path) -> JsonSample | None:
    """Look at a file; None where it cannot be read or does not begin as JSON."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            blocks = [_read(stream, 0, WHOLE)] if size <= WHOLE else _blocks(stream, size)
    except OSError:
        return None
    encoding, _ = encoding_of(blocks[0])
    found = JsonSample(path, "\n".join(block.decode(encoding, "replace") for block in blocks), size <= WHOLE)
    return found if found.text[:64].lstrip("\ufeff \t\r\n")[:1] in ("{", "[") else None


def _blocks(stream: BinaryIO, size: int) -> list[bytes]:
    return [_read(stream, (size - BLOCK) * part // (PARTS - 1) // 4 * 4, BLOCK) for part in range(PARTS)]


def _read(stream: BinaryIO, start: int, length: int) -> bytes:
    stream.seek(start)
    return stream.read(length)


def _texts(text: str, keys: tuple[str, ...]) -> list[str]:
    values = re.findall(rf'"(?:{"|".join(keys)})"\s*:\s*"((?:[^"\\]|\\.)*)"', text)
    return [re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", _unescaped, value) for value in values]


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else found[2]


def _block_with(path: Path, keys: tuple[str, ...]) -> str:
    """What follows the first place of one of the keys, in a file of UTF-8."""
    words = [f'"{key}"'.encode() for key in keys]
    with path.open("rb") as stream:
        for start in range(0, path.stat().st_size, CHUNK):
            chunk = _read(stream, start, CHUNK + max(map(len, words)))
            offsets = [offset for word in words if (offset := chunk.find(word)) >= 0]
            if offsets:
                return _read(stream, start + min(offsets), BLOCK).decode("utf-8", "replace")
    return ""
