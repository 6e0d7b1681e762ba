"""The `categories` of an annotation file, checked."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import Int64
from msgspec import Raw, Struct

from maskrcnn.data.annotations.annotation_file import fields_of, read_entries
from maskrcnn.data.annotations.registers import Register, register
from maskrcnn.data.annotations.spelling import Key, key_of, shown
from maskrcnn.data.faults import EXAMPLES, Faults, Kind, Severity

BAD_CATEGORY = Kind(
    "malformed-category", "categories", Severity.REFUSED, "have an entry that cannot be read", "they are left out"
)
CATEGORY_TWICE = Kind(
    "category-entry-twice",
    "categories",
    Severity.NOTE,
    "are listed again with the same words; once counts",
    "once is kept",
)
CATEGORY_CLASH = Kind(
    "category-id-twice", "category ids", Severity.REFUSED, "belong to two different classes", "both are left out"
)
CATEGORY_SPELT = Kind(
    "category-ids-otherwise",
    "categories",
    Severity.NOTE,
    "have an id written as text or with a decimal point, which is read as a whole number",
    "they are written as whole numbers",
)
NAMED_BY_ID = Kind(
    "category-without-name", "categories", Severity.NOTE, "have no name and are called by their id", "they are named"
)
NUMBERED = Kind(
    "category-ids-not-64-bit",
    "category ids",
    Severity.NOTE,
    "do not fit a whole number of 64 bits; all categories get numbers, in the file's order",
    "they are numbered",
)


class CategoryEntry(Struct, gc=False):
    id: int | str
    name: str
    keypoints: list[str] | None = None


class Categories(NamedTuple):
    """Categories that can be used, in ascending order of their ids."""

    ids: Int64[np.ndarray, " K"]
    names: tuple[str, ...]
    register: Register
    keypoint_names: tuple[str, ...]
    """Names that all categories with keypoints have; none where they differ: then no keypoints are read."""


_categories = msgspec.json.Decoder(list[CategoryEntry])


def read_categories(text: Raw, faults: Faults) -> Categories:
    """The categories that a file lists. Raises ValueError where it lists none."""
    entries = read_entries(text, "categories", _categories.decode, _mended, BAD_CATEGORY, faults)
    if not entries and msgspec.json.decode(text, type=list[Raw]) == []:
        raise ValueError("`categories` is empty; give every class an id and a name")
    known, clashes = _by_key(entries, faults)
    odd = [key for key in known if isinstance(key, str)]
    if odd:
        faults.add(NUMBERED, map(shown, odd[:EXAMPLES]), count=len(odd))
    keys = list(known) if odd else sorted(known)
    ids = range(1, len(keys) + 1) if odd else keys
    keypoints = {tuple(entry.keypoints) for entry in known.values() if entry.keypoints}
    return Categories(
        ids=np.array(ids, np.int64),
        names=tuple(known[key].name for key in keys),
        register=register("category", keys, list(clashes)),
        keypoint_names=keypoints.pop() if len(keypoints) == 1 else (),
    )


def _mended(row: Raw, faults: Faults) -> CategoryEntry:
    """An entry whose id or name is written otherwise. Raises msgspec.DecodeError."""
    values = fields_of(row, CategoryEntry.__struct_fields__)
    key = key_of(values.get("id"))
    name = values.get("name")
    if name is None and key is not None:
        faults.add(NAMED_BY_ID, f"category {shown(key)}")
        name = str(key)
    if isinstance(values.get("id"), float) and isinstance(key, int):
        faults.add(CATEGORY_SPELT, f"category {shown(key)}")
    return msgspec.convert({**values, "id": key, "name": name}, CategoryEntry)


def _by_key(entries: Sequence[CategoryEntry], faults: Faults) -> tuple[dict[Key, CategoryEntry], set[Key]]:
    """The categories that can be used, and the ids that two of them have."""
    known: dict[Key, CategoryEntry] = {}
    clashes: set[Key] = set()
    for entry in entries:
        key = key_of(entry.id)
        if isinstance(entry.id, str) and isinstance(key, int):
            faults.add(CATEGORY_SPELT, f"category {key}")
        first = known.setdefault(key, entry)
        if first is not entry and first.name == entry.name:
            faults.add(CATEGORY_TWICE, f"category {shown(key)}")
        elif first is not entry and key not in clashes:
            clashes.add(key)
            faults.add(
                CATEGORY_CLASH,
                shown(key),
                f"category id {shown(key)} occurs more than once, for {shown(repr(first.name))} and "
                f"{shown(repr(entry.name))}; ids must be unique: give one of them another",
            )
    return {key: entry for key, entry in known.items() if key not in clashes}, clashes
