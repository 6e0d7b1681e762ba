"""Classes of Pascal VOC: what the colours and the numbers of a class mask mean."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt32
from numpy.typing import ArrayLike
from PIL import Image

from maskrcnn.data.encodings import read_text
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.id_image import CODED, open_ids

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = 255
"""Number of pixels that belong to nothing: borders of objects, and what was not labelled."""
LINE = re.compile(r"(?P<name>.*?)\s*:\s*(?P<colour>\d{1,3},\s*\d{1,3},\s*\d{1,3})?\s*:[^:]*:[^:]*")
"""A line of CVAT's labelmap.txt: name, colour, parts, actions."""
FILES = ("labelmap.txt", "class_names.txt")
"""Files that name classes: CVAT's, and labelme's, which stand in the order of their numbers."""


def colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """The colours of numbers in VOC: the bits of a number, three at a time, become the highest of red, green, blue.

    >>> colours(22)[[1, 15, 21]].tolist(), colours(256)[255].tolist()
    ([[128, 0, 0], [192, 128, 128], [128, 64, 128]], [224, 224, 192])
    """
    rest = np.arange(count)
    found = np.zeros((count, 3), np.uint8)
    for shift in range(7, -1, -1):
        found |= (((rest[:, None] >> np.arange(3)) & 1) << shift).astype(np.uint8)
        rest >>= 3
    return found


def code(colour: ArrayLike) -> int:
    """A colour as the number that its pixels have in `read_ids`."""
    return int((np.asarray(colour, np.uint32) * CODED).sum())


VOID_CODE = code(colours(VOID + 1)[VOID])
"""What void is in a mask of colours."""


def number_of(label: int) -> int:
    """The number of the `label`-th class or object: counted from 1, and void is left out."""
    return label + (label >= VOID)


class Classes(NamedTuple):
    """Names by number and by colour."""

    names: tuple[str, ...]
    """In the order of their numbers, background first."""
    colours: dict[int, str]
    """Names by code of the colour; empty where no file tells colours."""

    @property
    def real(self) -> list[str]:
        """Names of classes, without that of the background."""
        return [name for name in self.names if not is_background(name)]

    def name(self, number: int, colour: int | None) -> str:
        """The class of a mask's value. colour: code of what the palette has there; None without a palette."""
        if colour is not None and colour in self.colours:
            return self.colours[colour]
        index = number - (number > VOID)
        return self.names[index] if index < len(self.names) else f"class {number}"


def is_background(name: str) -> bool:
    """Whether a class is none."""
    return name.strip("_").lower() in ("background", "bg", "ignore", "void", "")


def read_classes(root: Path, faults: Faults) -> Classes:
    """Classes that a file in a folder names; without one, those of VOC."""
    found = next((root / name for name in FILES if (root / name).is_file()), None)
    if found is None:
        return Classes(NAMES, {code(colour): name for colour, name in zip(colours(len(NAMES)), NAMES, strict=True)})
    lines = [line.strip() for line in read_text(found, faults).splitlines() if line.strip()]
    if found.name != FILES[0]:
        return Classes(tuple(line for line in lines if line != "__ignore__"), {})
    entries = [match for line in lines if not line.startswith("# label:") and (match := LINE.fullmatch(line))]
    by_colour = {
        code([min(int(part), 255) for part in entry["colour"].split(",")]): entry["name"]
        for entry in entries
        if entry["colour"]
    }
    return Classes(tuple(entry["name"] for entry in entries), by_colour)


def write_classes(names: Sequence[str], root: Path) -> None:
    """Write the file of classes as CVAT does."""
    lines = ["# label:color_rgb:parts:actions"]
    for label, colour in enumerate(colours(number_of(len(names)) + 1).tolist()):
        if label <= len(names):
            red, green, blue = colours(number_of(label) + 1)[-1].tolist() if label >= VOID else colour
            lines.append(f"{names[label - 1] if label else NAMES[0]}:{red},{green},{blue}::")
    root.mkdir(parents=True, exist_ok=True)
    (root / FILES[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_class_mask(path: Path) -> tuple[UInt32[np.ndarray, "h w"], dict[int, int]]:
    """The value of each pixel, and the colours of values where they have some, as codes.

    A value is a number, or the code of a colour, which then is its own.
    """
    with open_ids(path) as (ids, image):
        if image.mode in ("RGB", "RGBA"):
            return ids, {value: value for value in np.unique(ids).tolist()}
        return ids, _palette(image)


def _palette(image: Image.Image) -> dict[int, int]:
    palette = image.getpalette("RGB") if image.mode == "P" else None
    if palette is None:
        return {}
    entries = np.array(palette[: len(palette) // 3 * 3]).reshape(-1, 3)
    return {number: code(colour) for number, colour in enumerate(entries.tolist())}
