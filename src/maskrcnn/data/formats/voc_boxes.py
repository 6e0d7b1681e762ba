"""XML files of Pascal VOC: boxes and classes of one image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.xml_stream import elements, whole, xml_text

HEAD = 1024
"""Characters in which a file says what it is."""
NO_BOX = Kind("voc-no-box", "objects", Severity.REFUSED, "have no box of four numbers", "they are left out")
BROKEN = Kind("voc-xml", "files", Severity.REFUSED, "cannot be read", "their images are left out")
SIDES = ("xmin", "ymin", "xmax", "ymax")
KEPT = ("pose", "truncated", "difficult", "occluded")
"""What else is said of an object."""


class BoxFile(NamedTuple):
    """What an XML file says."""

    file_name: str
    size: tuple[int | None, int | None]
    """(height, width) as written."""
    objects: list[tuple[str, tuple[float, float, float, float], dict[str, Any]]]
    """Class, (x1, y1, x2, y2) as written, and attributes."""


def is_box_file(path: Path) -> bool:
    """Whether a file begins as one of VOC."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).replace(b"\0", b"")
    except OSError:
        return False
    return b"<annotation>" in head or b"<annotation " in head


def read_boxes(path: Path, faults: Faults) -> BoxFile | None:
    """Read a file; None where it cannot be read, which is reported."""
    try:
        found = list(elements(xml_text(path), path))
    except (OSError, ValueError) as error:
        faults.add(BROKEN, path.name, str(error))
        return None
    name = next((text_of(element) for element in found if element.tag == "filename"), "")
    objects = [element for element in found if element.tag == "object"]
    size = next((element for element in found if element.tag == "size"), Element("size"))
    return BoxFile(
        name,
        (whole(text_of(size.find("height"))), whole(text_of(size.find("width")))),
        list(_objects(objects, path, faults)),
    )


def _objects(found: list[Element], path: Path, faults: Faults) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for number, element in enumerate(found, 1):
        name, corners = text_of(element.find("name")), element.find("bndbox")
        try:
            box = tuple(float(text_of(corners.find(side))) for side in SIDES) if corners is not None else ()
        except ValueError:
            box = ()
        if len(box) != 4 or not name or not all(abs(side) < 1e9 for side in box):
            faults.add(
                NO_BOX,
                f"object {number} of {path.name}",
                f"{path}: object {number} needs a <name> and a <bndbox> with {', '.join(SIDES)}; add or remove it",
            )
            continue
        yield name, box, {key: text_of(element.find(key)) for key in KEPT if text_of(element.find(key))}


def text_of(element: Element | None) -> str:
    """The text of an element without blanks around it; empty where there is none."""
    return (element.text or "").strip() if element is not None else ""
