"""What files of the VGG Image Annotator say: projects and exports of versions 1 and 2, as JSON or CSV."""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import msgspec

from maskrcnn.data.formats.curves import box_ring, ellipse_ring
from maskrcnn.data.formats.pieces import Piece, polygon_piece
from maskrcnn.masks import rings_from_polygons

NO_AREA = {"point", "polyline", "line"}
"""Regions that cover nothing."""
CLASS_WORDS = ("class", "label", "name", "type", "category", "object")
"""Attributes that hold the class where half of the regions have them, the first of these before the others."""
CSV_FIELDS = {"filename", "region_shape_attributes", "region_attributes"}


class Region(msgspec.Struct):
    """A region of an image."""

    shape_attributes: dict[str, Any] = {}
    region_attributes: dict[str, Any] = {}


class Entry(msgspec.Struct):
    """An image; a picture that version 1 embeds is passed over."""

    filename: str
    regions: list[Any] | dict[str, Any] = []


_any = msgspec.json.Decoder(dict[str, Any])


def parse(text: str, is_csv: bool) -> tuple[list[Entry], dict[str, Any], list[str]]:
    """(images, options of the attributes of regions, names of what is no image).

    Raises ValueError for what is no file of VIA.
    """
    if is_csv:
        return _parse_csv(text), {}, []
    content = _content(text)
    attributes = content.get("_via_attributes")
    rows = content.get("_via_img_metadata", content)
    rows = rows if isinstance(rows, dict) else {}
    entries, strange = [], []
    for key, row in rows.items():
        try:
            entries.append(msgspec.convert(row, Entry))
        except (msgspec.ValidationError, RecursionError):
            strange.append(key)
    if not entries:
        raise ValueError("no entry has a `filename` and `regions`")
    options = attributes.get("region") if isinstance(attributes, dict) else None
    return entries, options if isinstance(options, dict) else {}, strange


def rows_of(entry: Entry) -> list[Any]:
    """What an image lists as its regions, in their order."""
    return list(entry.regions.values()) if isinstance(entry.regions, dict) else entry.regions


def region_of(row: Any) -> Region:
    """A region. Raises ValueError for what is none."""
    try:
        return msgspec.convert(row, Region)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from None


def class_attribute(regions: Sequence[Region]) -> str | None:
    """The attribute that holds the class: a usual word that half of the regions have, else what most have."""
    counts = Counter(
        name for region in regions for name, value in region.region_attributes.items() if value not in ("", None, {})
    )
    for word in CLASS_WORDS:
        for name, count in counts.items():
            if name.strip().lower() == word and 2 * count >= len(regions):
                return name
    return max(counts, key=lambda name: counts[name], default=None)


def class_of(region: Region, attribute: str, options: Mapping[str, Any]) -> str:
    """The class that a region names; empty where it names none. Raises ValueError where it names several."""
    value = region.region_attributes.get(attribute)
    if isinstance(value, dict):  # checkboxes
        chosen = [name for name, ticked in value.items() if ticked is True]
        if len(chosen) > 1:
            raise ValueError(f"it has {len(chosen)} classes, {' and '.join(chosen)}; leave one")
        value = chosen[0] if chosen else ""
    if value is None or isinstance(value, list):
        return ""
    text = str(value).strip()
    described = options.get(attribute)
    choices = described.get("options") if isinstance(described, dict) else None
    if isinstance(choices, dict) and all(str(key).isdecimal() for key in choices):
        return str(choices.get(text) or text)
    return text


def piece_of(region: Region) -> Piece:
    """What a region covers. Raises ValueError, without naming the region, for one that cannot be read."""
    shape = region.shape_attributes
    kind = shape.get("name")
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError("expected `all_points_x` and `all_points_y` of one length")
        return polygon_piece([[_finite(x), _finite(y)] for x, y in zip(xs, ys, strict=True)])
    if kind == "rect":
        x, y, width, height = (_finite(shape.get(name)) for name in ("x", "y", "width", "height"))
        return Piece(rings_from_polygons([box_ring(x, y, x + width, y + height).ravel()]), is_box=True)
    if kind in ("circle", "ellipse"):
        x, y = _finite(shape.get("cx")), _finite(shape.get("cy"))
        rx, ry = (_finite(shape.get("r" if kind == "circle" else name)) for name in ("rx", "ry"))
        degrees = math.degrees(_finite(shape.get("theta", 0)))
        return Piece(rings_from_polygons([ellipse_ring(x, y, rx, ry, degrees).ravel()]))
    raise ValueError(f"expected a polygon, rect, circle or ellipse, received {kind!r:.40}")


def _content(text: str) -> dict[str, Any]:
    """What a file says, also where numbers are NaN, infinite or beyond floating point. Raises ValueError."""
    try:
        return _any.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        complaint = str(error) or "it nests too deeply"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(complaint)
    return content


def _parse_csv(text: str) -> list[Entry]:
    rows = csv.DictReader(StringIO(text.lstrip("#\ufeff"), newline=""))
    found: dict[str, Entry] = {}
    try:
        if not CSV_FIELDS.issubset(rows.fieldnames or ()):
            raise ValueError(f"expected columns {', '.join(sorted(CSV_FIELDS))}")
        for row in rows:
            entry = found.setdefault(row["filename"] or "", Entry(row["filename"] or "", []))
            shape = _cell(row["region_shape_attributes"])
            if shape:
                region = {"shape_attributes": shape, "region_attributes": _cell(row["region_attributes"])}
                assert isinstance(entry.regions, list)
                entry.regions.append(region)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {rows.line_num}: {error}") from None
    return list(found.values())


def _cell(text: str | None) -> Any:
    """What a cell of a table says; its text where that is no JSON, which no region is made of."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text


def _finite(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, received {value!r:.40}")
    return number
