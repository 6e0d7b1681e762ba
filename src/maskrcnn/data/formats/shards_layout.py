"""Which tars are a data set's shards: those of a folder, of a name with `{0000..0009}`, or of a pattern."""

from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

import msgspec

from maskrcnn.data.formats.source import Folder, Part, Source, part_of
from maskrcnn.data.name_ranges import RANGE, expanded
from maskrcnn.data.sources import SUFFIXES
from maskrcnn.data.tar_members import TAR, Member, first_members, read_member
from maskrcnn.sentences import counted, some_of

CATEGORIES = "dataset.json"
"""The file beside the tars that lists their categories."""
NAMED = f"*{TAR}"
"""Stands, as the last part of a source's labels, for the tars of a folder whose names say which split they are of."""
TRIED = 3
"""Tars of a folder that are opened to see whether they are shards."""
LOOKED_AT = 64
"""Members of a tar that are looked at for that."""
LARGEST = 1 << 28
"""Bytes of an image's annotations beyond which they are none."""


def find(folder: Folder) -> list[Source]:
    """Folders of tars, told by the first of them; the split is told by their names, else by those of folders."""
    found: list[Source] = []
    for place, names in folder.files.items():
        tars = [place / name for name in names if name.lower().endswith(TAR)]
        if tars and any(map(is_shard, tars[:TRIED])):
            found += _sources(folder.root, place, tars)
    return found


def named_by(pattern: Path) -> Source | None:
    """The tars that a name means, as one split: a single shard, a range or a pattern; None where it is none of these.

    Raises FileNotFoundError where a range or a pattern names tars that are not there.
    """
    is_one = pattern.name.lower().endswith(TAR) and pattern.is_file() and is_shard(pattern)
    if not is_one and not is_pattern(pattern):
        return None
    tars_of(pattern, "")
    return _source(part_of(Path(pattern.name)), pattern, pattern.parent, "it names tars of images and their JSON")


def is_pattern(path: Path) -> bool:
    """Whether a name means several tars and is no file's or folder's own."""
    name = path.name
    return name.lower().endswith(TAR) and bool(RANGE.search(name) or has_magic(name)) and not path.exists()


def tars_of(labels: Path, part: Part) -> list[Path]:
    """The tars of a split, in the order of their names. Raises FileNotFoundError where one is missing."""
    if labels.is_dir():
        return [tar for tar in _tars_in(labels) if part_of(Path(tar.name)) in ("", part)]
    if labels.name == NAMED:
        return [tar for tar in _tars_in(labels.parent) if part_of(Path(tar.name)) == part]
    names = [labels.name] if labels.is_file() else list(expanded(labels.name))
    found = [labels.parent / name for name in names]
    if has_magic(labels.name) and not labels.is_file():
        found = sorted({Path(one) for tar in found for one in glob(str(tar))})
    missing = [tar.name for tar in found if not tar.is_file()]
    if missing or not found:
        raise FileNotFoundError(f"{labels} lacks {some_of(missing or [labels.name], 3)}; complete or correct the name")
    return found


def is_shard(tar: Path) -> bool:
    """Whether a tar's first members are images with annotations: JSON of their stems that has a list of them."""
    try:
        members = first_members(tar, LOOKED_AT)
        images = {key_of(one.name) for one in members if is_picture(one.name)}
        pairs = (one for one in members if ending_of(one.name) == ".json" and key_of(one.name) in images)
        return any(_is_annotated(read_member(tar, one)) for one in pairs if one.size <= LARGEST)
    except (OSError, ValueError):
        return False


def key_of(name: str) -> str:
    """What members of one image share: the name up to the first dot behind its folders.

    >>> key_of("a.b/000012.seg.png"), ending_of("a.b/000012.seg.png")
    ('a.b/000012', '.seg.png')
    """
    return name[: len(name) - len(ending_of(name))]


def ending_of(name: str) -> str:
    """What a member is of its image: `.jpg`, `.json`."""
    _, dot, ending = name.rpartition("/")[2].partition(".")
    return dot + ending


def is_picture(name: str) -> bool:
    """Whether a member is its image, and not a mask beside it."""
    return ending_of(name).lower() in SUFFIXES


def samples(members: Sequence[Member]) -> dict[str, list[Member]]:
    """Members by their stem, in the order of the tar."""
    found: dict[str, list[Member]] = {}
    for member in members:
        found.setdefault(key_of(member.name), []).append(member)
    return found


def _is_annotated(text: bytes) -> bool:
    try:
        content = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("annotations"), list) and "images" not in content


def _tars_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == TAR and not path.name.startswith("."))


def _sources(root: Path, place: Path, tars: Sequence[Path]) -> Iterator[Source]:
    """A split for the tars whose names tell none, and one for each that names tell."""
    around = part_of(place.relative_to(root))
    parts = list(dict.fromkeys(part_of(Path(tar.name)) for tar in tars))
    for part in parts:
        count = sum(part_of(Path(tar.name)) == part for tar in tars)
        why = f"{place.name} holds {counted(count, 'tars')} of images and their JSON"
        if part == "":
            yield _source(around, place, place, why)
        elif part != around or "" not in parts:
            yield _source(part, place / NAMED, place, why)


def _source(part: Part, labels: Path, images: Path, why: str) -> Source:
    categories = images / CATEGORIES
    return Source("shards", part, labels, images, why, categories if categories.is_file() else None)
