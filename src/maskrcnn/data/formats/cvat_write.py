"""A data set as CVAT's XML."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats.cvat_shapes import CROWD
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.shapes_of import Ring, Shape, mask_of, shapes_of
from maskrcnn.files import atomic_write
from maskrcnn.masks import counts_from_bitmap

FILE_NAME, IMAGES = "annotations.xml", "images"
SUBSETS = {"train": "Train", "val": "Validation", "test": "Test"}
"""What CVAT calls splits."""
OWN = ("occluded", "group_id", "z_order")
"""Attributes that CVAT has a place for in every shape."""
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold."""


def document(splits: Mapping[str, Dataset], names: Mapping[str, Sequence[str]], losses: Losses) -> Element:
    """The whole document.

    names   of the images of each split, below the folder of its subset
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = _add_meta(root, [SUBSETS.get(part, part) for part in splits if part])
    number, used = 0, set[str]()
    for part, data in splits.items():
        for image, name in enumerate(names[part]):
            height, width = data.sizes[image].tolist()
            subset = {"subset": SUBSETS.get(part, part)} if part else {}
            size = {"width": str(width), "height": str(height)}
            element = SubElement(root, "image", {"id": str(number), "name": _text(name), **subset, **size})
            number += 1
            _add_shapes(element, data, image, used, losses)
    for name in dict.fromkeys(chain.from_iterable(data.category_names for data in splits.values())):
        _add_label(labels, name, sorted(used))
    return root


def write_document(root: Element, path: Path) -> None:
    """Write a document with one element to a line."""
    indent(root)
    with atomic_write(path) as draft:
        ElementTree(root).write(draft, encoding="utf-8", xml_declaration=True)


def _add_meta(root: Element, subsets: Sequence[str]) -> Element:
    """What a task is, or a project with a task for each subset; gives the element of the labels."""
    meta = SubElement(root, "meta")
    if not subsets:
        task = SubElement(meta, "task")
        SubElement(task, "mode").text = "annotation"
        return SubElement(task, "labels")
    project = SubElement(meta, "project")
    labels = SubElement(project, "labels")
    SubElement(project, "subsets").text = "\n".join(subsets)
    tasks = SubElement(project, "tasks")
    for name in subsets:
        task = SubElement(tasks, "task")
        for field, text in (("name", name), ("mode", "annotation"), ("subset", name)):
            SubElement(task, field).text = text
    return labels


def _add_label(labels: Element, name: str, attributes: Sequence[str]) -> None:
    label = SubElement(labels, "label")
    SubElement(label, "name").text = _text(name)
    SubElement(label, "type").text = "any"
    declared = SubElement(label, "attributes")
    for attribute in attributes:
        one = SubElement(declared, "attribute")
        fields = {"name": attribute, "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
        for field, text in fields.items():
            SubElement(one, field).text = text


def _add_shapes(image: Element, data: Dataset, index: int, used: set[str], losses: Losses) -> None:
    shapes = list(shapes_of(data, index))
    taken = {shape.attributes.get("group_id") for shape in shapes}
    free = iter(number for number in range(1, 2 * len(shapes) + 2) if number not in taken)
    for shape in shapes:
        stated = {name: value for name, value in shape.attributes.items() if name not in OWN}
        attributes = {_text(name): _value(value) for name, value in stated.items()}
        losses.add(
            "attributes become text, as all numbers and lists do in CVAT",
            sum(not isinstance(value, str | bool) for value in stated.values()),
        )
        attributes |= {CROWD[0]: "true"} if shape.crowd else {}
        used.update(attributes)
        own = _own_fields(shape, free)
        for tag, fields in _drawn(data, shape, losses):
            element = SubElement(image, tag, {"label": _text(shape.name), "source": "file", **fields, **own})
            for name, text in attributes.items():
                SubElement(element, "attribute", {"name": name}).text = text


def _own_fields(shape: Shape, free: Iterator[int]) -> dict[str, str]:
    group = shape.attributes.get("group_id")
    if group is None and len(shape.bodies) > 1 and not shape.has_holes:
        group = next(free)
    fields = {
        "occluded": "1" if shape.attributes.get("occluded") in (True, 1) else "0",
        "z_order": str(shape.attributes.get("z_order", 0)),
    }
    return fields if group is None else {**fields, "group_id": str(group)}


def _drawn(data: Dataset, shape: Shape, losses: Losses) -> Iterator[tuple[str, dict[str, str]]]:
    """The tags of an object, each with its coordinates."""
    if shape.is_box:
        x, y, width, height = shape.box
        yield "box", dict(zip(("xtl", "ytl", "xbr", "ybr"), map(repr, (x, y, x + width, y + height)), strict=True))
    elif shape.has_holes:
        losses.add("objects with holes are written as a shape of type `mask`, which CVAT 2.3 and later show")
        yield "mask", _mask(data, shape)
    else:
        yield from (("polygon", {"points": _points(body[0])}) for body in shape.bodies)


def _points(ring: Ring) -> str:
    return ";".join(f"{x!r},{y!r}" for x, y in ring.tolist())


def _mask(data: Dataset, shape: Shape) -> dict[str, str]:
    window, left, top = mask_of(data, shape.row)
    counts = counts_from_bitmap(window.T)  # along the rows
    height, width = window.shape
    numbers = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, counts.tolist())), **{name: str(number) for name, number in numbers.items()}}


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _text(text)


def _text(text: str) -> str:
    return FORBIDDEN.sub("", text)
