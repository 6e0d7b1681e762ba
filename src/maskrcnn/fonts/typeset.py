"""A line of text, each part of it in a font that has its letters."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

from maskrcnn.fonts.find import first_font, font_for, pillows_own
from maskrcnn.fonts.tables import Face

SILENT = ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me")
"""Categories of characters that need no glyph of their own: spaces, controls, and marks that belong to a letter."""


class Part(NamedTuple):
    """Some letters in one font, `x` pixels from where the line begins."""

    x: float
    text: str
    font: ImageFont.FreeTypeFont


class Typeset(NamedTuple):
    """A line of text, ready to be drawn, and where its ink is, in pixels from the start of its baseline."""

    parts: tuple[Part, ...]
    left: float
    top: float
    right: float
    bottom: float

    def draw(self, pen: ImageDraw.ImageDraw, x: float, y: float, color: tuple[int, int, int]) -> None:
        """Draw it; (x, y) is the start of its baseline."""
        for part in self.parts:
            pen.text((x + part.x, y), part.text, fill=color, font=part.font, anchor="ls")


def typeset(text: str, size: float) -> Typeset:
    """Set a text in fonts of `size` pixels; what no font has becomes squares, and line breaks become spaces.

    `top` and `bottom` hold "Ag" in the usual font, so that most lines of one size are of one height.
    Raises ValueError where `MASKRCNN_FONT` names no font.
    """
    usual = first_font()
    _, top, _, bottom = _font(usual, size).getbbox("Ag", anchor="ls")
    parts: list[Part] = []
    x, left, right = 0.0, 0.0, 0.0
    for letters, face in split(text):
        font = _font(face, size)
        ink = font.getbbox(letters, anchor="ls")
        left, right = left if parts else ink[0], max(right, x + ink[2])
        if face != usual:
            top, bottom = min(top, ink[1]), max(bottom, ink[3])
        parts.append(Part(x, letters, font))
        x += font.getlength(letters)
    return Typeset(tuple(parts), left, top, right, bottom)


def split(text: str) -> list[tuple[str, Face]]:
    """Parts of a text with the font of each: the usual one, and whole words in another where it lacks letters.

    Words between two such words go with them, so that a line from right to left keeps its order.
    """
    text, usual = plain(text), first_font()
    lacking = set(usual.lacks(needed(text)))
    places = [place for place, letter in enumerate(text) if letter in lacking]
    if not places:
        return [(text, usual)]
    first, last = places[0], places[-1] + 1
    words = text.rfind(" ", 0, first) + 1, text.find(" ", last) % (len(text) + 1)
    for start, stop in (words, (first, last)):
        face = font_for(needed(text[start:stop]))
        if face is not None:
            parts = [(text[:start], usual), (text[start:stop], face), (text[stop:], usual)]
            return [part for part in parts if part[0]]
    return list(_letter_by_letter(text, usual))


def plain(text: str) -> str:
    """A text as letters that fonts have: accents joined to them, controls as spaces, halves of letters replaced."""
    categories = {"Cc": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
    return "".join(categories.get(unicodedata.category(one), one) for one in unicodedata.normalize("NFC", text))


def needed(text: str) -> str:
    """The letters for which a font must have a glyph, each once."""
    return "".join(sorted({letter for letter in text if unicodedata.category(letter) not in SILENT}))


def _letter_by_letter(text: str, usual: Face) -> Iterator[tuple[str, Face]]:
    faces, face = [], usual
    for letter in text:
        if needed(letter):
            face = font_for(letter) or usual
        faces.append(face)
    for face, group in groupby(zip(text, faces, strict=True), key=lambda pair: pair[1]):
        yield "".join(letter for letter, _ in group), face


@lru_cache(maxsize=64)
def _font(face: Face, size: float) -> ImageFont.FreeTypeFont:
    if face.path is None:
        return pillows_own(size)
    return ImageFont.truetype(face.path, size, face.number)
