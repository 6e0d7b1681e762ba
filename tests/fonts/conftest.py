"""A machine with the fonts that a test gives it, made of bytes: squares for the letters that they have."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from maskrcnn.fonts import find, notes


def segments(codes: list[int]) -> bytes:
    """A `cmap` subtable of format 4: the glyph of each code is 1, the last segment by its list of glyphs."""
    ends = [*codes, 0xFFFF]
    count = len(ends)
    deltas = [*((1 - code) & 0xFFFF for code in codes[:-1]), 0, 1]
    offsets = [0] * (count - 2) + [4, 0]
    words = [4, 16 + 8 * count + 2, 0, 2 * count, 0, 0, 0, *ends, 0, *ends, *deltas, *offsets, 1]
    return struct.pack(f">{len(words)}H", *words)


def groups(codes: list[int], kind: int = 12) -> bytes:
    """A subtable of format 12, or of 13, which shows many letters as one glyph."""
    rows = b"".join(struct.pack(">III", code, code, 1) for code in codes)
    return struct.pack(">HHIII", kind, 0, 16 + len(rows), 0, len(codes)) + rows


def font(letters: str, kind: int = 4, drop: bytes = b"") -> bytes:
    """A TrueType font whose glyph for each letter is a filled square; `drop` names a table that it lacks."""
    codes = sorted(map(ord, letters))
    table = segments(codes) if kind == 4 else groups(codes, kind)
    encoding = 1 if kind == 4 else 10
    square = struct.pack(">hhhhhHH4B8h", 1, 0, 0, 800, 800, 3, 0, 1, 1, 1, 1, 0, 800, 0, -800, 0, 0, 800, 0)
    tables = {
        b"cmap": struct.pack(">HHHHI", 0, 1, 3, encoding, 12) + table,
        b"glyf": square,
        b"head": struct.pack(
            ">IIIIHHQQhhhhHHhhh", 1 << 16, 0, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, 800, 800, 0, 8, 2, 1, 0
        ),
        b"hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 1 << 16, 900, -200, 0, 1000, 0, 0, 800, 1, 0, 0, 0, 0, 0, 0, 0, 2),
        b"hmtx": struct.pack(">HhHh", 500, 0, 1000, 0),
        b"loca": struct.pack(">III", 0, 0, len(square)),
        b"maxp": struct.pack(">IHHHHHHHHHHHHHH", 1 << 16, 2, 4, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    tables.pop(drop, None)
    head = struct.pack(">IHHHH", 1 << 16, len(tables), 0, 0, 0)
    start, rows, body = 12 + 16 * len(tables), b"", b""
    for name, content in tables.items():
        content += b"\0" * (-len(content) % 4)
        rows += struct.pack(">4sIII", name, 0, start + len(body), len(content))
        body += content
    return head + rows + body


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Gives the machine these fonts alone, by file name; nothing has been said of them yet."""

    def install(**fonts: bytes) -> Path:
        folder = tmp_path / "fonts"
        folder.mkdir(exist_ok=True)
        for name, content in fonts.items():
            (folder / f"{name}.ttf").write_bytes(content)
        monkeypatch.setattr(find, "font_folders", lambda: [folder, tmp_path / "absent"])
        forget()
        return folder

    def forget() -> None:
        for kept in (find.system_fonts, find._other_font, find._faces, find._named):
            kept.cache_clear()
        notes.squares_told.clear()
        notes.shapes_told.clear()

    monkeypatch.delenv(find.VARIABLE, raising=False)
    yield install
    forget()
