"""One annotation that the scan does not understand."""

import math
from typing import Any

import msgspec
from msgspec import Raw, Struct

from maskrcnn.data.annotations.annotation_file import fields_of
from maskrcnn.data.annotations.spelling import NON_FINITE, decimal, flag, key_of
from maskrcnn.data.faults import Kind, Severity

NO_ID = Kind("no-annotation-id", "objects", Severity.NOTE, "have no id; they are numbered", "they are numbered")
TEXT_NUMBERS = Kind(
    "numbers-as-text",
    "objects",
    Severity.NOTE,
    "have an id, box or area written as text, which is read as the number that it spells",
    "they are written as numbers",
)
POINT_IDS = Kind(
    "ids-with-point",
    "objects",
    Severity.NOTE,
    "have an id with a decimal point, which is read as a whole number",
    "they are written without",
)
CROWD_SPELT = Kind(
    "iscrowd-otherwise",
    "objects",
    Severity.NOTE,
    "have an `iscrowd` that is not the whole number 0 or 1; null and nothing count as 0, "
    "text and decimals as what they spell",
    "0 or 1 is written",
)


CROWD_BEYOND = Kind(
    "iscrowd-beyond-one",
    "objects",
    Severity.WARNING,
    "have an `iscrowd` other than 0 and 1, which is read as 1: nothing is learnt of them",
    "1 is written",
)


class AnnotationEntry(Struct, gc=False):
    image_id: int | str
    category_id: int | str
    id: int | str | None = None
    bbox: tuple[float, float, float, float] | None = None
    iscrowd: bool | int = 0
    segmentation: Raw = Raw(b"null")
    area: Any = None


_entry = msgspec.json.Decoder(AnnotationEntry)
IDS = ("id", "image_id", "category_id")
_NUMBERS = (*IDS, "bbox", "iscrowd", "area")


def read_entry(row: Raw) -> tuple[AnnotationEntry, set[Kind]]:
    """An annotation, its ids as `key_of` gives them, and how it is written otherwise. Raises msgspec.DecodeError."""
    try:
        entry, spelt = _entry.decode(row), set[Kind]()
    except msgspec.DecodeError:
        entry, spelt = _mended(row)
    if entry.iscrowd not in (0, 1):
        spelt.add(CROWD_BEYOND)
    if entry.id is None:
        spelt.add(NO_ID)
    for name in IDS:
        stated = getattr(entry, name)
        key = key_of(stated)
        setattr(entry, name, key)
        if isinstance(stated, str) and isinstance(key, int):
            spelt.add(TEXT_NUMBERS)
    return entry, spelt


def area_of(entry: AnnotationEntry) -> float:
    """The stated area; what is no number is measured, as where nothing is stated."""
    area = decimal(entry.area)
    try:
        return float(area) if isinstance(area, int | float) else math.nan
    except OverflowError:
        return math.nan


def _is_beyond(stated: Any) -> bool:
    return isinstance(stated, int | float) and stated not in (0, 1)


def _mended(row: Raw) -> tuple[AnnotationEntry, set[Kind]]:
    values, spelt = fields_of(row, _NUMBERS), set[Kind]()
    for name in IDS:
        if isinstance(values.get(name), float) and values[name].is_integer():
            values[name] = int(values[name])
            spelt.add(POINT_IDS)
    if isinstance(values.get("bbox"), list):
        box = [decimal(number) for number in values["bbox"]]
        if box != values["bbox"] and all(str(number) not in NON_FINITE for number in values["bbox"]):
            spelt.add(TEXT_NUMBERS)
        values["bbox"] = box or None
    if "iscrowd" in values and not isinstance(values["iscrowd"], int):
        stated = decimal(values["iscrowd"])
        values["iscrowd"] = flag(values["iscrowd"])
        if not isinstance(values["iscrowd"], bool):
            raise msgspec.ValidationError(f"`iscrowd` is {stated!r}; write 0 or 1")
        spelt.add(CROWD_BEYOND if values["iscrowd"] is True and _is_beyond(stated) else CROWD_SPELT)
    segmentation = msgspec.json.decode(row, type=dict[str, Raw]).get("segmentation", Raw(b"null"))
    return msgspec.convert({**values, "segmentation": segmentation}, AnnotationEntry), spelt
