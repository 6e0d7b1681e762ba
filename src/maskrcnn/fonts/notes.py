"""What a person should know of names that cannot be drawn as they are written."""

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from threading import Event

from PIL import features

from maskrcnn.fonts.find import VARIABLE, font_for
from maskrcnn.fonts.typeset import needed, plain
from maskrcnn.sentences import Note, some_of

squares_told, shapes_told = Event(), Event()
"""Whether this process has said that letters are missing, and that they are not joined."""


def note_unreadable(names: Iterable[str]) -> None:
    """Say, once in a process, how many names no font here has the letters of, and what to do about it.

    Likewise of names whose letters must be joined or run from right to left, where Pillow has no Raqm to do that.
    Raises ValueError where `MASKRCNN_FONT` names no font.
    """
    names = list(dict.fromkeys(names))
    lost = [] if squares_told.is_set() else unreadable(names)
    if lost:
        squares_told.set()
        warnings.warn(
            f"no font on this machine has the letters of {_counted(lost)}, in whose place squares are drawn; install a "
            f"font that has them, such as the packages fonts-noto-core and fonts-noto-cjk, or set {VARIABLE} to the "
            "file of one",
            Note,
            stacklevel=2,
        )
    torn = [] if shapes_told.is_set() or features.check("raqm") else [name for name in names if needs_shaping(name)]
    if torn:
        shapes_told.set()
        warnings.warn(
            f"the letters of {_counted(torn)} are drawn one by one from left to right, as Pillow has no Raqm here that "
            "joins and orders them; install FriBiDi, such as the package libfribidi0",
            Note,
            stacklevel=2,
        )


def unreadable(names: Sequence[str]) -> list[str]:
    """Select the names with a letter that no font of this machine has; each letter is looked up once."""
    letters = {name: set(needed(plain(name))) for name in names}
    lost = {letter for letter in set().union(*letters.values()) if font_for(letter) is None}
    return [name for name in names if lost & letters[name]]


def needs_shaping(name: str) -> bool:
    """Whether letters run from right to left or have marks of their own, as in Arabic, Hebrew, Hindi or Thai."""
    text = plain(name)
    return any(
        unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.category(letter) in ("Mc", "Mn")
        for letter in text
    )


def _counted(names: list[str]) -> str:
    return f"{len(names)} name{'s' * (len(names) > 1)} ({some_of(names)})"
