"""The `images` of an annotation file: ids, names and sizes, checked."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import Int64
from msgspec import Raw, Struct

from maskrcnn.data.annotations.annotation_file import fields_of, read_entries
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.registers import Register, register
from maskrcnn.data.annotations.spelling import Key, key_of, shown, whole
from maskrcnn.data.faults import EXAMPLES, Faults, Kind, Severity
from maskrcnn.data.image_file import LONGEST_SIDE
from maskrcnn.data.image_names import last_of_url
from maskrcnn.sentences import typed

BAD_IMAGE = Kind(
    "malformed-image", "images", Severity.REFUSED, "have an entry that cannot be read", "they are left out"
)
IMAGE_TWICE = Kind(
    "image-entry-twice", "images", Severity.NOTE, "are listed again with the same words; once counts", "once is kept"
)
IMAGE_CLASH = Kind(
    "image-id-twice", "image ids", Severity.REFUSED, "belong to two different images", "both images are left out"
)
IMAGE_SPELT = Kind(
    "image-numbers-otherwise",
    "images",
    Severity.NOTE,
    "have an id or size written as text or with a decimal point, which is read as a whole number",
    "they are written as whole numbers",
)
STATED_IDS = Kind(
    "image-ids-not-64-bit",
    "image ids",
    Severity.NOTE,
    "do not fit a whole number of 64 bits; they are kept as text, and the images counted from 1",
)
URL_NAMES = Kind(
    "name-from-url",
    "images",
    Severity.NOTE,
    "have no `file_name`; it is the last part of their `coco_url` or `flickr_url`",
    "they are named",
)
NO_SIZE = Kind("no-size", "images", Severity.REFUSED, "state no size, and no picture tells it", "they are left out")
SIZE_FOUND = Kind(
    "size-from-picture",
    "images",
    Severity.NOTE,
    "state no height and width, which the header of the picture tells",
    "the pictures' is written",
)
ABSURD_SIZE = Kind("absurd-size", "images", Severity.REFUSED, "state a size that no picture has", "they are left out")
MOST_PIXELS = 2**31 - 1
"""Pixels of an image beyond which no run lengths are written."""

NUMBERS = ("id", "height", "width")
SizesOf = Callable[[Sequence[str]], Sequence[tuple[int, int] | str]]
"""Tells of each file name the picture's (height, width), or a sentence why it cannot."""


class ImageEntry(Struct, gc=False):
    id: int | str
    height: int = 0
    width: int = 0
    file_name: str | None = ""
    """Needed where the images are read, not for scores."""


class _LinkedEntry(ImageEntry, gc=False):
    """What may stand in for a name."""

    coco_url: str | None = ""
    flickr_url: str | None = ""


class Images(NamedTuple):
    """Images that can be used, in the order of the file."""

    ids: Int64[np.ndarray, " N"]
    stated_ids: tuple[str, ...]
    """Empty where all ids are whole numbers of 64 bits."""
    names: Names
    sizes: Int64[np.ndarray, "N 2"]
    register: Register
    are_measured: bool
    """Whether the pictures told a size that the file does not state."""


_images, _linked = msgspec.json.Decoder(list[ImageEntry]), msgspec.json.Decoder(list[_LinkedEntry])


def read_images(text: Raw, sizes_of: SizesOf | None, faults: Faults) -> Images:
    """The images that a file lists.

    sizes_of   asked for those without a size; with None they are refused
    Raises ValueError where it lists none.
    """
    entries = _entries(text, faults)
    if not entries and msgspec.json.decode(text, type=list[Raw]) == []:
        raise ValueError("`images` is empty; there is nothing to read")
    keys = [key_of(entry.id) for entry in entries]
    spelt = [key for key, entry in zip(keys, entries, strict=True) if type(entry.id) is str and type(key) is int]
    faults.add(IMAGE_SPELT, [f"image {key}" for key in spelt[:EXAMPLES]], count=len(spelt))
    clashes: set[Key] = set()
    if len(set(keys)) < len(keys):
        keys, entries, clashes = _without_twins(keys, entries, faults)
    sized, are_measured = _sized(entries, sizes_of, faults)
    kept = [entry for entry in sized if entry is not None]
    kept_keys = [key for key, entry in zip(keys, sized, strict=True) if entry is not None]
    unsized = [key for key, entry in zip(keys, sized, strict=True) if entry is None]
    ids, stated_ids = _numbered(kept_keys, faults)
    return Images(
        ids=ids,
        stated_ids=stated_ids,
        names=Names.pack([entry.file_name or "" for entry in kept]),
        sizes=np.array([(entry.height, entry.width) for entry in kept], np.int64).reshape(-1, 2),
        register=register("image", kept_keys, [*clashes, *unsized]),
        are_measured=are_measured,
    )


def _entries(text: Raw, faults: Faults) -> Sequence[ImageEntry]:
    with suppress(msgspec.DecodeError):
        entries = _images.decode(text)
        if all(entry.file_name for entry in entries):
            return entries
    return [_named(entry, faults) for entry in read_entries(text, "images", _linked.decode, _mended, BAD_IMAGE, faults)]


def _mended(row: Raw, faults: Faults) -> _LinkedEntry:
    """An entry whose numbers are written as text or with a point. Raises msgspec.DecodeError."""
    values = fields_of(row, _LinkedEntry.__struct_fields__)
    mended = {**values, "id": key_of(values.get("id"))}
    for name in ("height", "width"):
        mended[name] = whole(values.get(name)) or 0
    entry = msgspec.convert(mended, _LinkedEntry)
    if any(isinstance(values.get(name), str | float) and isinstance(mended[name], int) for name in NUMBERS):
        faults.add(IMAGE_SPELT, f"image {shown(entry.id)}")
    return entry


def _named(entry: _LinkedEntry, faults: Faults) -> ImageEntry:
    """The entry with the last part of its address for a name, where it has no other."""
    url = "" if entry.file_name else entry.coco_url or entry.flickr_url or ""
    if url:
        faults.add(URL_NAMES, f"image {shown(entry.id)}")
    name = entry.file_name or last_of_url(url)
    return ImageEntry(entry.id, entry.height, entry.width, name)


def _without_twins(
    keys: Sequence[Key], entries: Sequence[ImageEntry], faults: Faults
) -> tuple[list[Key], list[ImageEntry], set[Key]]:
    """The keys and entries without repetitions and without those that clash, and the keys that clash."""
    known: dict[Key, ImageEntry] = {}
    clashes: set[Key] = set()
    for key, entry in zip(keys, entries, strict=True):
        first = known.setdefault(key, entry)
        if first is entry:
            continue
        if _same(first, entry):
            faults.add(IMAGE_TWICE, f"image {shown(key)}")
        elif key not in clashes:
            clashes.add(key)
            faults.add(
                IMAGE_CLASH,
                shown(key),
                f"image id {shown(key)} occurs more than once, for {_told(first)} and for {_told(entry)}; "
                "ids must be unique: give one of them another",
            )
    kept = {key: entry for key, entry in known.items() if key not in clashes}
    return list(kept), list(kept.values()), clashes


def _same(one: ImageEntry, other: ImageEntry) -> bool:
    return (one.file_name, one.height, one.width) == (other.file_name, other.height, other.width)


def _told(entry: ImageEntry) -> str:
    return f"{shown(repr(entry.file_name))} with id {shown(repr(entry.id))} and size {entry.height} x {entry.width}"


def _sized(
    entries: Sequence[ImageEntry], sizes_of: SizesOf | None, faults: Faults
) -> tuple[list[ImageEntry | None], bool]:
    """Entries with a size, nothing in the place of those that have none, and whether pictures were asked."""
    sized: list[ImageEntry | None] = list(entries)
    unsized = [index for index, entry in enumerate(entries) if entry.height <= 0 or entry.width <= 0]
    answers: Sequence[tuple[int, int] | str] = [
        f"`maskrcnn data check DIR {typed('--fix')} DEST` writes the pictures'"
    ] * len(unsized)
    if sizes_of is not None and unsized:
        answers = sizes_of([entries[index].file_name or "" for index in unsized])
    for index, answer in zip(unsized, answers, strict=True):
        entry = entries[index]
        if isinstance(answer, str):
            sized[index] = None
            faults.add(NO_SIZE, f"image {shown(entry.id)}", f"{_stated_size(entry)}; {answer}")
        else:
            sized[index] = ImageEntry(entry.id, *answer, entry.file_name)
            faults.add(SIZE_FOUND, f"image {shown(entry.id)}")
    for index, entry in enumerate(entries):
        if max(entry.height, entry.width) > LONGEST_SIDE or entry.height * entry.width > MOST_PIXELS:
            sized[index] = None
            most = f"expected at most {LONGEST_SIDE} pixels a side and {MOST_PIXELS} in all; correct it"
            faults.add(ABSURD_SIZE, f"image {shown(entry.id)}", f"{_stated_size(entry)}; {most}")
    return sized, sizes_of is not None and bool(unsized)


def _stated_size(entry: ImageEntry) -> str:
    if not entry.height and not entry.width:
        return f"image {shown(entry.id)} states no height and no width"
    return f"image {shown(entry.id)} states height {shown(entry.height)} and width {shown(entry.width)}"


def _numbered(keys: Sequence[Key], faults: Faults) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    """Ids as whole numbers, and as text where not all of them are."""
    odd = [key for key in keys if isinstance(key, str)]
    if not odd:
        return np.array(keys, np.int64), ()
    faults.add(STATED_IDS, map(shown, odd[:EXAMPLES]), count=len(odd))
    return np.arange(1, len(keys) + 1), tuple(str(key) for key in keys)
