"""The layout of a COCO instances file, and its parser, which can say what is wrong where."""

import codecs
import json
import math
import re
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from maskrcnn.files import listing


class ImageEntry(Struct, gc=False):
    id: int
    height: int
    width: int
    file_name: str = ""
    """Needed where the images are read, not for scores."""


class CategoryEntry(Struct, gc=False):
    id: int
    name: str
    keypoints: list[str] | None = None


class AnnotationEntry(Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: bool | int = 0
    segmentation: Raw = Raw(b"null")
    area: Any = None


class AnnotationFile(Struct):
    images: list[ImageEntry]
    annotations: list[Raw]
    """Text of JSON; `decode_row` makes an `AnnotationEntry` of one, which for all of them would fill the memory."""
    categories: list[CategoryEntry]


_rows = msgspec.json.Decoder(list[AnnotationEntry])


def open_file(path: Path) -> BufferedReader:
    """Open an annotation file. Raises FileNotFoundError with one sentence about what is there instead."""
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, which holds {listing(path)}; expected an annotation file")
    try:
        return path.open("rb")
    except FileNotFoundError:
        found = listing(path.parent) if path.parent.is_dir() else "nothing: the folder does not exist"
        raise FileNotFoundError(f"the annotation file {path} does not exist; {path.parent} holds {found}") from None


def parse(text: bytes, path: Path) -> AnnotationFile:
    """The content of an annotation file but for its annotations. Raises one sentence with the entry's name."""
    try:
        return msgspec.json.decode(text, type=AnnotationFile)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {_explain(text, str(error))}") from None


def decode_row(file: AnnotationFile, index: int, text: bytes, path: Path) -> AnnotationEntry:
    """One of the annotations. Raises as `parse`, which the text was given to."""
    try:
        return _rows.decode(b"[" + bytes(file.annotations[index]) + b"]")[0]
    except msgspec.DecodeError as error:
        complaint = str(error).replace("$[0]", f"$.annotations[{index}]")
        raise ValueError(f"{path}: {_explain(text, complaint)}") from None


def _explain(text: bytes, complaint: str) -> str:
    """Which record a parser's complaint is about; reads the file a second time, slowly."""
    if text.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark, which JSON does not allow; save it as UTF-8 without one"
    try:
        content = json.loads(text)
    except ValueError:
        return f"is not complete JSON ({complaint}); copy or export it again"
    found = re.search(r"\$\.(\w+)\[(\d+)\]", complaint)
    if found:
        record = content[found[1]][int(found[2])]
        id = record.get("id", "without id") if isinstance(record, dict) else "without id"
        return f"{found[1]} entry {found[2]}, id {id}: {complaint}; correct this entry"
    rows = content.get("annotations") if isinstance(content, dict) else None
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and not _is_finite(row):
            return (
                f"annotation {row.get('id')} of image {row.get('image_id')} holds a number that is NaN or infinite; "
                "correct or remove it"
            )
    return f"{complaint}; expected a COCO instances file with `images`, `annotations` and `categories`"


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
