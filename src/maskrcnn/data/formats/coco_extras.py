"""What a COCO file says of images, categories and itself that no column holds: looked up when the data are written."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from maskrcnn.data.annotations.non_finite import quote_non_finite
from maskrcnn.data.annotations.spelling import Key, key_of
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.encodings import as_utf8
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.json_sample import sample
from maskrcnn.sentences import some_of

LISTS = ("images", "annotations", "categories")
IN_COLUMNS = {
    *("id", "file_name", "height", "width", "name", "keypoints"),
    *("neg_category_ids", "not_exhaustive_category_ids", "frequency", "image_count", "instance_count"),
}
"""Fields that are written from the columns, those that LVIS adds among them."""
MOST_TOLD = 6

Origin = Sequence[tuple[int, str]]
"""(id, name) of the categories that a class stands for."""


class Extras(NamedTuple):
    """Other entries of a file, as its own text."""

    file: Mapping[str, Raw]
    images: Mapping[Key, Raw]
    """The whole entry of each image, by id."""
    categories: Mapping[tuple[Key | None, str], Raw]
    """The whole entry of each category, by id and name, and by its name alone."""

    def of_image(self, id: Key) -> dict[str, Raw]:
        """Other fields of an image."""
        return _others(self.images.get(key_of(id)))

    def of_class(self, origin: Origin) -> dict[str, Raw]:
        """Other fields of the categories that a class stands for, but those of which they say different things."""
        return {field: texts[0] for field, texts in self._said_of(origin).items() if len(texts) == 1}

    def contradicted(self, origin: Origin) -> list[str]:
        """Fields of which the categories that a class stands for say different things."""
        return [field for field, texts in self._said_of(origin).items() if len(texts) > 1]

    def names_keypoints(self, origin: Origin) -> bool:
        """Whether the entry of a category that a class stands for lists keypoints."""
        return any("keypoints" in msgspec.json.decode(entry, type=dict[str, Raw]) for entry in self._entries(origin))

    def _said_of(self, origin: Origin) -> dict[str, list[Raw]]:
        """Other fields, each with what is said of it, the same once."""
        found: dict[str, list[Raw]] = {}
        for entry in self._entries(origin):
            for field, text in _others(entry).items():
                known = found.setdefault(field, [])
                known += [text] if text not in known else []
        return found

    def _entries(self, origin: Origin) -> list[Raw]:
        """Whole entries of categories; where an id has changed, that of the first of its name."""
        found = (self.categories.get((id, name)) or self.categories.get((None, name)) for id, name in origin)
        return [entry for entry in found if entry is not None]


class _Image(Struct, gc=False):
    id: Any = None


class _Category(Struct, gc=False):
    id: Any = None
    name: Any = None


NOTHING = Extras({}, {}, {})


def extras_of(data: Dataset) -> Extras:
    """What the file of a data set says besides; nothing where it is none of COCO's, or several were joined."""
    return NOTHING if data.joined else _read(data.annotations)


def extras_lost(data: Dataset) -> str:
    """What is not in a copy that holds the columns alone, for one sentence; empty where nothing is lost."""
    found = [extras for path in data.joined or (data.annotations,) if (extras := _read(path)) is not NOTHING]
    told = {
        "": dict.fromkeys(name for one in found for name in one.file),
        "of images ": _names([row for one in found for row in one.images.values()]),
        "of categories ": _names([row for one in found for row in one.categories.values()]),
    }
    return "; ".join(some + some_of(names, MOST_TOLD) for some, names in told.items() if names)


def _read(path: Path) -> Extras:
    seen = sample(path)
    if seen is None or not seen.is_object:
        return NOTHING
    with suppress(OSError, ValueError, RecursionError):
        file = _entries(as_utf8(path.read_bytes(), Faults()))
        images, categories = (msgspec.json.decode(file[name], type=list[Raw]) for name in ("images", "categories"))
        return Extras(
            {name: text for name, text in file.items() if name not in LISTS}, _by_id(images), _by_name(categories)
        )
    return NOTHING


def _entries(text: bytes) -> dict[str, Raw]:
    """The lists of a file and what stands beside them. Raises ValueError where it has no such lists."""
    try:
        file = msgspec.json.decode(text, type=dict[str, Raw])
    except msgspec.DecodeError:
        file = msgspec.json.decode(quote_non_finite(text), type=dict[str, Raw])
    if not file.keys() >= set(LISTS):
        raise ValueError(f"expected the lists {', '.join(LISTS)}")
    return file


def _by_id(rows: Sequence[Raw]) -> dict[Key, Raw]:
    """Entries by id, the first of each; those that have none that can be looked up are passed over."""
    found: dict[Key, Raw] = {}
    for row in rows:
        with suppress(msgspec.DecodeError):
            key = key_of(msgspec.json.decode(row, type=_Image).id)
            if isinstance(key, int | str):
                found.setdefault(key, row)
    return found


def _by_name(rows: Sequence[Raw]) -> dict[tuple[Key | None, str], Raw]:
    found: dict[tuple[Key | None, str], Raw] = {}
    for row in rows:
        with suppress(msgspec.DecodeError):
            entry = msgspec.json.decode(row, type=_Category)
            key = key_of(entry.id)
            name = str(key) if entry.name is None else entry.name
            if isinstance(name, str) and isinstance(key, int | str):
                found.setdefault((key, name), row)
                found.setdefault((None, name), row)
    return found


def _others(row: Raw | None) -> dict[str, Raw]:
    if row is None:
        return {}
    return {
        name: text for name, text in msgspec.json.decode(row, type=dict[str, Raw]).items() if name not in IN_COLUMNS
    }


def _names(rows: Sequence[Raw]) -> dict[str, None]:
    """Names of other fields, each once."""
    return dict.fromkeys(name for row in rows for name in _others(row))
