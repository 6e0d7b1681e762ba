"""CVAT for images 1.1: one XML file for all images."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.below import first_having
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.cvat_shapes import NO_AREA, attributes_of, piece_of
from maskrcnn.data.formats.cvat_write import FILE_NAME, IMAGES, SUBSETS, document, write_document
from maskrcnn.data.formats.image_folder import around
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.pictures import Pictures
from maskrcnn.data.formats.pieces import Piece, add_pieces
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.source import Folder, Part, Source, part_of
from maskrcnn.data.formats.upright import upright_splits
from maskrcnn.data.formats.xml_stream import elements, whole, xml_text

TITLE = "CVAT for images"
IS_CVAT = re.compile(r"<annotations[\s>]")
IMAGE = re.compile(r"<image\s[^>]*>")
SUBSET = re.compile(r"""\ssubset=["']([^"']*)["']""")
BROKEN = Kind("cvat-shape", "shapes", Severity.REFUSED, "cannot be read", "they are left out")
CUT_OFF = Kind("cvat-cut-off", "files", Severity.REFUSED, "cannot be read to their end", "what follows is left out")
FLAT = Kind(
    "cvat-no-area", "shapes", Severity.NOTE, "have no area (lines, points, skeletons, cuboids, tags) and are left out"
)
GROUPED = Kind(
    "cvat-group", "objects", Severity.NOTE, "consist of several shapes of one label and one group_id in one image"
)
TRACKS = Kind(
    "cvat-tracks",
    "tracks",
    Severity.REFUSED,
    "belong to a video, which is not read; export `CVAT for images`",
    "they are left out",
)


def find(folder: Folder) -> list[Source]:
    """XML files of CVAT; each of their subsets is a split."""
    return [source for path in first_having(folder.files, ".xml") for source in _sources(folder, path)]


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Shapes of one label and one group_id in one image are one object.

    Raises ValueError where nothing can be read.
    """
    pictures = Pictures(Folder(source.images), faults)
    return kept(source, faults, [source.labels, *pictures.paths], lambda: _read(source, pictures, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write `annotations.xml` and `images/`; splits are subsets, with a folder for each.

    An object of several parts is polygons of one group_id; one with holes is a mask.
    """
    losses = Losses(TITLE)
    splits = upright_splits(splits, losses)
    names = {}
    for part, data in splits.items():
        names[part] = losses.renamed(data, place(data, dest / IMAGES / SUBSETS.get(part, part)))
        losses.count(data, attributes=True)
    write_document(document(splits, names, losses), dest / FILE_NAME)
    return losses.sentences()


def _sources(folder: Folder, path: Path) -> Iterator[Source]:
    try:
        with path.open("rb") as file:
            if not IS_CVAT.search(file.read(4096).replace(b"\0", b"").decode("latin-1")):
                return
        text = xml_text(path)
    except (OSError, ValueError):
        return
    words = _subsets(text)
    parts: dict[Part, str] = {
        part_of(Path(word)) or part_of(path.relative_to(folder.root)): word for word in sorted(words)
    }
    images = around(folder, path, path.parent / IMAGES)
    for part, word in sorted(parts.items()):
        why = f"{path.name} is XML of CVAT" + (f" with the subset {word}" if len(parts) > 1 else "")
        own = images / word
        yield Source("cvat", part, path, own if word and os.path.isdir(own) else images, why)


def _subsets(text: str) -> set[str]:
    """Subsets of the images, an empty one for those that name none."""
    return {found[1] if (found := SUBSET.search(tag)) else "" for tag in IMAGE.findall(text)}


def _read(source: Source, pictures: Pictures, faults: Faults) -> Dataset:
    builder: Builder | None = None
    classes: list[str] = []
    text = xml_text(source.labels)
    part = source.part if source.part in map(part_of, map(Path, _subsets(text))) else ""
    try:
        for element in elements(text, source.labels):
            if element.tag == "meta":
                classes = [name.text.strip() for name in element.iterfind(".//labels/label/name") if name.text]
            elif element.tag == "track":
                faults.add(TRACKS, f"track {element.get('id')}")
            elif element.tag == "image":
                builder = builder or Builder(source.labels, source.images, faults, list(dict.fromkeys(classes)))
                if part_of(Path(element.get("subset", ""))) == part:
                    _add_image(builder, element, pictures, faults)
    except ValueError as error:
        if builder is None:
            raise
        faults.add(CUT_OFF, source.labels.name, str(error))
    return (builder or Builder(source.labels, source.images, faults)).dataset()


def _add_image(builder: Builder, element: Element, pictures: Pictures, faults: Faults) -> None:
    stated, subset = element.get("name", ""), element.get("subset", "")
    who = f"image {element.get('id')}"
    name = pictures.find(stated, "", subset)
    if name is None:
        pictures.report_missing(stated, who)
        return
    size = pictures.size(name, (whole(element.get("height")), whole(element.get("width"))))
    if size is None:
        return
    image = builder.add_image(name, size)
    for (label, _), shapes in _grouped(element).items():
        pieces = list(_pieces(shapes, name, faults))
        if len(pieces) > 1:
            faults.add(GROUPED, f"{label} in {name}")
        if pieces:
            attributes, crowd = attributes_of(shapes[0])
            add_pieces(builder, image, label, pieces, crowd, attributes)


def _grouped(image: Element) -> dict[tuple[str, Any], list[Element]]:
    """Shapes by label and group; one without a group by itself."""
    found: dict[tuple[str, Any], list[Element]] = {}
    for number, shape in enumerate(image):
        group = shape.get("group_id", "0")
        key: Any = (number,) if group in ("", "0") or shape.tag in NO_AREA else group
        found.setdefault((shape.get("label", ""), key), []).append(shape)
    return found


def _pieces(shapes: list[Element], name: str, faults: Faults) -> Iterator[Piece]:
    for shape in shapes:
        who = f"{shape.tag} {shape.get('label')} in {name}"
        if shape.tag in NO_AREA:
            faults.add(FLAT, who)
            continue
        try:
            if not shape.get("label"):
                raise ValueError("it has no label")
            yield piece_of(shape)
        except ValueError as error:
            faults.add(BROKEN, who, f"{who}: {error}; correct or remove it")
