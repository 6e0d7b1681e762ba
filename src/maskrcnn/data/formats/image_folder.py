"""Where the images lie that an annotation file names."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from maskrcnn.data.formats.source import Folder, part_of
from maskrcnn.data.sources import SUFFIXES, is_image

NOT_IMAGES = re.compile(r"(?<![a-z])(masks?|labels?|anno\w*|gt\w*|seg\w*|overlays?|vis\w*|thumb\w*|cache)(?![a-z])")
"""Words of folders that hold drawings of annotations under the names of their images."""
ENOUGH = 0.9
"""Share of the most names found in any folder with which another is as good: a copy that lacks an image."""


def image_folder(folder: Folder, labels: Path, names: Iterable[str]) -> tuple[Path, int]:
    """(folder of the images, number of the names that are found there).

    labels   the annotation file
    names    some of the names in it: paths in either spelling, encoded ones, addresses
    Where several folders have about as many, the nearest, and among these the one that shares words with the annotation
    file. Where none has any, the nearest with images.
    """
    votes = Counter(_bases(folder, {plain(name) for name in names}))
    if not votes:
        return _nearest(folder, labels), 0
    least = ENOUGH * max(votes.values())
    found = min((base for base in votes if votes[base] >= least), key=lambda base: _distance(folder, labels, base))
    return found, votes[found]


def around(folder: Folder, file: Path, *first: Path) -> Path:
    """The innermost folder around an annotation file that has images below it; that of the file where none has.

    first   folders to be tried before
    """
    outer = [one for one in file.parents if one.is_relative_to(folder.root)]
    having = [below for below, names in folder.files.items() if any(map(is_image, names))]
    for candidate in (*first, *outer):
        if any(below.is_relative_to(candidate) for below in having):
            return candidate
    return file.parent


def plain(name: str) -> str:
    """The path of a name with forward slashes: without drive, address and percent signs.

    >>> plain("images\\\\my%20one.png"), plain("http://images.cocodataset.org/train2017/1.jpg")
    ('images/my one.png', 'train2017/1.jpg')
    """
    if re.match(r"\w{2,}://", name):
        name = urlsplit(name).path
    name = re.sub(r"^[a-zA-Z]:", "", name.replace("\\", "/"))
    return unquote(name).lstrip("/") if "%" in name else name.lstrip("/")


def _bases(folder: Folder, names: set[str]) -> Iterable[Path]:
    """For each folder that has a file of one of these names: the folder that the whole name is below."""
    wanted: dict[str, list[tuple[str, ...]]] = {}
    for name in sorted(names):
        path = PurePosixPath(name.lower())
        wanted.setdefault(path.name, []).append(path.parent.parts)
    for place, files in folder.files.items():
        for file in wanted.keys() & {file.lower() for file in files}:
            yield from {_above(folder.root, place, parents) for parents in wanted[file]}


def _above(root: Path, place: Path, parents: tuple[str, ...]) -> Path:
    """The folder that `parents` lead to `place` from; the place itself where they do not, or lead out of the root."""
    base = place
    for parent in reversed(parents):
        if parent in (".", ".."):
            break
        if base == root or base.name.lower() != parent:
            return place
        base = base.parent
    return base


def _distance(folder: Folder, labels: Path, base: Path) -> tuple[bool, bool, int, int, str]:
    """How far a folder of images is from an annotation file, for order."""
    own, inner = labels.relative_to(folder.root), base.relative_to(folder.root)
    common = len(Path(os.path.commonpath([labels, base])).parts) - len(folder.root.parts)
    is_drawn = any(NOT_IMAGES.search(part.lower()) for part in inner.parts[common:])
    is_other = bool(part_of(own)) and part_of(inner) not in ("", part_of(own))
    steps = len(own.parts) + len(inner.parts) - 2 * common
    return is_drawn, is_other, steps, -len(_words(own) & _words(inner)), str(inner)


def _words(path: Path) -> set[str]:
    return set(re.findall(r"[a-z]+\d*|\d+", str(path).lower().removesuffix(".json")))


def _nearest(folder: Folder, labels: Path) -> Path:
    """The folder with images that is nearest to an annotation file; the one beside it where there is none."""
    places = {path.parent for path in folder.having(*SUFFIXES)}
    return min(places, key=lambda place: _distance(folder, labels, place), default=labels.parent)
