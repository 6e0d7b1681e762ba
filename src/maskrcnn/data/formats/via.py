"""VGG Image Annotator, versions 1 and 2: one JSON file for all images of a folder."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.encodings import read_text
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.below import first_having
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.image_folder import around
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.pictures import Pictures
from maskrcnn.data.formats.pieces import add_pieces
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.shapes_of import Shape, ring_of, shapes_of
from maskrcnn.data.formats.source import Folder, Source, part_of
from maskrcnn.data.formats.upright import upright_splits
from maskrcnn.data.formats.via_file import (
    NO_AREA,
    Entry,
    Region,
    class_attribute,
    class_of,
    parse,
    piece_of,
    region_of,
    rows_of,
)
from maskrcnn.files import atomic_write

TITLE = "VGG Image Annotator"
FILE_NAME = "via_project.json"
MARKS = (
    b'"_via_img_metadata"',
    b'"_via_settings"',
    b'"region_attributes"',
    b'"file_attributes"',
    b"region_shape_attributes",
)
LARGEST = 1 << 28
"""Bytes of the largest file that is opened to see whether it is of this format."""
ONLY_CLASS = "object"
"""Class of regions where none names one."""
CLASS, CROWD = "class", "iscrowd"
"""Attributes of regions that are written."""
BROKEN = Kind("via-region", "regions", Severity.REFUSED, "cannot be read", "they are left out")
STRANGE = Kind("via-entry", "entries", Severity.REFUSED, "do not describe an image", "they are left out")
FLAT = Kind("via-no-area", "regions", Severity.NOTE, "have no area (points or lines) and are left out")
UNNAMED = Kind("via-one-class", "regions", Severity.NOTE, f"name no class and are called {ONLY_CLASS!r}")
CLASS_FOUND = Kind("via-class", "regions", Severity.NOTE, "name their class in an attribute of another name")


def find(folder: Folder) -> list[Source]:
    """Files of VIA; each is a split. A project and its exports, of the same images in one folder, are one."""
    found: dict[tuple[Path, frozenset[str]], Source] = {}
    for path in first_having(folder.files, ".json", ".csv"):
        entries = _sample(path)
        if entries is not None:
            key = path.parent, frozenset(entry.filename for entry in entries)
            if key not in found or _is_project(path):
                found[key] = _source(folder, path)
    return list(found.values())


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Sizes are those of the images' headers, as VIA states none.

    Raises ValueError where nothing can be read.
    """
    pictures = Pictures(Folder(source.images), faults)
    return kept(source, faults, [source.labels, *pictures.paths], lambda: _read(source, pictures, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write a project of version 2 for each split, with its images beside it.

    A region is one polygon: parts and holes of an object are joined to it by bridges that enclose nothing.
    """
    losses = Losses(TITLE)
    for part, data in upright_splits(splits, losses).items():
        names = losses.renamed(data, place(data, dest / part))
        entries = {}
        for image, name in enumerate(names):
            length = (dest / part / name).stat().st_size
            regions = [_region(data, shape, losses) for shape in shapes_of(data, image)]
            entries[f"{name}{length}"] = {"filename": name, "size": length, "regions": regions, "file_attributes": {}}
        losses.count(data, attributes=True)
        with atomic_write(dest / part / FILE_NAME) as draft:
            draft.write_bytes(msgspec.json.encode(_project(entries, data)))
    return losses.sentences()


def _source(folder: Folder, path: Path) -> Source:
    why = f"{path.name} has regions with `shape_attributes`, as VIA writes them"
    return Source("via", part_of(path.relative_to(folder.root)), path, around(folder, path), why)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096).replace(b"\0", b"")


def _is_project(path: Path) -> bool:
    head = _head(path)
    return any(mark in head for mark in MARKS[:2])


def _sample(path: Path) -> list[Entry] | None:
    """The images of a file, none of a damaged project; nothing where it is something else."""
    try:
        head = _head(path)
        if path.stat().st_size > LARGEST or not any(mark in head for mark in MARKS):
            return None
        return parse(read_text(path), path.suffix.lower() == ".csv")[0]
    except OSError:
        return None
    except ValueError:
        return [] if _is_project(path) else None


def _parse(path: Path, faults: Faults) -> tuple[list[Entry], dict[str, Any], list[str]]:
    try:
        return parse(read_text(path, faults), path.suffix.lower() == ".csv")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a file of VIA ({error}); restore it") from None


def _read(source: Source, pictures: Pictures, faults: Faults) -> Dataset:
    entries, options, strange = _parse(source.labels, faults)
    faults.add(STRANGE, strange, f"{source.labels}: the entry {strange[0]!r} is no image" if strange else "")
    found = [(entry, list(_regions(entry, faults))) for entry in entries]
    regions = [region for _, members in found for _, region in members]
    attribute = class_attribute(regions)
    if attribute is None:
        faults.add(UNNAMED, count=len(regions))
    elif attribute.lower() not in ("class", "label", "name", "type"):
        faults.add(CLASS_FOUND, attribute, count=len(regions))
    builder = Builder(source.labels, source.images, faults, _classes(attribute, options))
    beside = os.path.relpath(source.labels.parent, source.images).replace(os.sep, "/")
    for entry, members in found:
        name = pictures.find(entry.filename, beside)
        size = pictures.size(name, None) if name else None
        if name is None:
            pictures.report_missing(entry.filename, f"an entry of {source.labels.name}")
        elif size is not None:
            image = builder.add_image(name, size)
            for number, region in members:
                _add(builder, image, region, (attribute, options), f"region {number} of {name}", faults)
    return builder.dataset()


def _regions(entry: Entry, faults: Faults) -> Iterator[tuple[int, Region]]:
    """The regions of an image that cover something, with their numbers in the file."""
    for number, row in enumerate(rows_of(entry)):
        try:
            region = region_of(row)
        except ValueError as error:
            who = f"region {number} of {entry.filename}"
            faults.add(BROKEN, who, f"{who}: {error}; correct or remove it")
            continue
        if str(region.shape_attributes.get("name")) in NO_AREA:
            faults.add(FLAT, entry.filename)
        else:
            yield number, region


def _add(
    builder: Builder,
    image: int,
    region: Region,
    classes: tuple[str | None, Mapping[str, Any]],
    who: str,
    faults: Faults,
) -> None:
    attribute, options = classes
    try:
        name = class_of(region, attribute, options) if attribute else ONLY_CLASS
        if not name:
            raise ValueError(f"its attribute {attribute!r}, which names the class of the others, is empty")
        piece = piece_of(region)
    except ValueError as error:
        faults.add(BROKEN, who, f"{who}: {error}; correct or remove it")
        return
    attributes = {key: value for key, value in region.region_attributes.items() if key != attribute}
    crowd = attributes.pop(CROWD, False) in (True, 1, "1", "true")
    add_pieces(builder, image, name, [piece], crowd, attributes)


def _classes(attribute: str | None, options: Mapping[str, Any]) -> list[str]:
    """The classes of a menu, in its order."""
    described = options.get(attribute) if attribute else None
    choices = described.get("options") if isinstance(described, dict) else None
    if not isinstance(choices, dict):
        return []
    if all(str(key).isdecimal() for key in choices):
        return list(dict.fromkeys(str(value or key) for key, value in choices.items()))
    return [str(key).strip() for key in choices]


def _region(data: Dataset, shape: Shape, losses: Losses) -> dict[str, Any]:
    if shape.is_box:
        drawn: dict[str, Any] = {"name": "rect", **dict(zip(("x", "y", "width", "height"), shape.box, strict=True))}
    else:
        if len(shape.rings) > 1:
            losses.add("objects of several parts or with holes are joined into one polygon by lines without width")
        xs, ys = np.transpose(ring_of(data, shape)).tolist()
        drawn = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
    crowd = {CROWD: "1"} if shape.crowd else {}
    return {"shape_attributes": drawn, "region_attributes": {CLASS: shape.name, **_others(shape, losses), **crowd}}


def _others(shape: Shape, losses: Losses) -> dict[str, Any]:
    """Other attributes; one that bears the name of the class is left out."""
    if CLASS in shape.attributes:
        losses.add(f"objects lose their attribute {CLASS!r}, under which the class is written")
    return {key: value for key, value in shape.attributes.items() if key not in (CLASS, CROWD)}


def _project(entries: dict[str, Any], data: Dataset) -> dict[str, Any]:
    menu = {
        "type": "dropdown",
        "description": "",
        "options": dict.fromkeys(data.category_names, ""),
        "default_options": {},
    }
    return {
        "_via_settings": {"core": {"filepath": {}, "default_filepath": ""}, "project": {"name": "via_project"}},
        "_via_img_metadata": entries,
        "_via_attributes": {"region": {CLASS: menu}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }
