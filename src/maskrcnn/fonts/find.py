"""Fonts of the machine, the plain ones first, and the one that a person names."""

import os
import sys
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import ImageFont

from maskrcnn.fonts.tables import Face, read_cmaps, read_faces

VARIABLE = "MASKRCNN_FONT"
ENDINGS = (".ttf", ".otf", ".ttc", ".otc")
MOST_FILES = 5000
"""Fonts that are looked at: a machine with more has every letter among the first."""
NOT_PLAIN = ("bold", "italic", "oblique", "black", "thin", "light", "medium", "condensed", "mono", "serif", "unifont")
NOT_FOR_TEXT = ("lastresort", "adobeblank", "notdef")
"""Words in the names of fonts that show every letter as the same sign."""


def font_folders() -> list[Path]:
    """Where this system keeps fonts; those of a person come first."""
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", str(home / "AppData/Local"))
        return [Path(local) / "Microsoft/Windows/Fonts", Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    own = os.environ.get("XDG_DATA_HOME") or home / ".local/share"
    shared = (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    return [home / ".fonts", Path(sys.prefix) / "fonts", *(Path(folder) / "fonts" for folder in (own, *shared))]


@cache
def system_fonts() -> tuple[Path, ...]:
    """The font files of the machine: plain ones before bold, slanted and narrow ones, else by name."""
    found = (
        Path(parent) / name
        for folder in font_folders()
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(ENDINGS) and not any(word in name.lower() for word in NOT_FOR_TEXT)
    )
    return tuple(sorted(found, key=lambda path: (*_order(path.name.lower()), path))[:MOST_FILES])


def first_font() -> Face:
    """The font that `MASKRCNN_FONT` names, else Pillow's own. Raises ValueError where that is no font."""
    name = os.environ.get(VARIABLE)
    return _named(name) if name else _pillows_face()


def font_for(letters: str) -> Face | None:
    """The first font that has all of some letters: the named one, Pillow's own, then those of the system."""
    usual = first_font()
    return usual if not usual.lacks(letters) else _other_font(letters)


def pillows_own(size: float) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@cache
def _pillows_face() -> Face:
    return Face(None, 0, next(cmap for _, cmap in read_cmaps(BytesIO(pillows_own(16).font_bytes))))


@cache
def _named(name: str) -> Face:
    face = next(filter(_opens, read_faces(Path(name).expanduser())), None)
    if face is None:
        raise ValueError(f"{VARIABLE}: expected a font file (.ttf, .otf, .ttc) with outlines, received {name!r}")
    return face


@cache
def _other_font(letters: str) -> Face | None:
    faces = (face for path in system_fonts() for face in _faces(path))
    if not _pillows_face().lacks(letters):
        return _pillows_face()
    return next((face for face in faces if not face.lacks(letters) and _opens(face)), None)


def _order(name: str) -> tuple[int, bool]:
    return sum(word in name for word in NOT_PLAIN), "sans" not in name


@cache
def _faces(path: Path) -> tuple[Face, ...]:
    return tuple(read_faces(path))


def _opens(face: Face) -> bool:
    """Whether FreeType can draw with it."""
    if face.path is None:
        return True
    try:
        ImageFont.truetype(face.path, 16, face.number)
    except (OSError, ValueError):
        return False
    return True
