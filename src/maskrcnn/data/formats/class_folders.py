"""Classes of formats that have no names for them: `classes.txt`, and a folder of masks for each of several."""

import re
from collections.abc import Sequence
from pathlib import Path

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.encodings import read_text
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.instances_layout import OTHERS, WORDS
from maskrcnn.data.formats.source import PARTS, Folder

FILE = "classes.txt"
"""Names of classes, one a line."""
OBJECT = "object"
"""Class of objects where no folder and no file names one."""
LONGEST = 200
"""Bytes of a class whose name is that of a folder; file systems take 255."""
NUMBERED = re.compile(r"class (\d{1,9})")
"""Folder of a class whose name cannot be that of a folder: its line in the file, from 1."""


def class_file(folder: Folder, place: Path) -> Path | None:
    """The file of classes in a folder, or in one around it."""
    around = [one for one in (place, *place.parents) if one.is_relative_to(folder.root)]
    return next((one / FILE for one in around if FILE in folder.files.get(one, ())), None)


def read_classes(path: Path | None, faults: Faults) -> list[str]:
    """The names in a file of classes, if there is one."""
    if path is None:
        return []
    return list(dict.fromkeys(line.strip() for line in read_text(path, faults).splitlines() if line.strip()))


def write_classes(data: Dataset, dest: Path) -> None:
    """Write the file of classes."""
    dest.mkdir(parents=True, exist_ok=True)
    (dest / FILE).write_text("".join(f"{name}\n" for name in data.category_names), encoding="utf-8")


def class_of(folder: str, classes: Sequence[str]) -> str:
    """The class that the folder of a mask stands for; an empty name is no folder of its own."""
    found = NUMBERED.fullmatch(folder)
    if found and 0 < int(found[1]) <= len(classes):
        return classes[int(found[1]) - 1]
    return folder or (classes[0] if len(classes) == 1 else OBJECT)


def folder_of(data: Dataset, label: int) -> str:
    """The folder for the masks of a class: its name, or its number where that cannot be one or means something else."""
    name = data.category_names[label - 1]
    means_else = name.lower() in PARTS or any(words.search(name.lower()) for words in (WORDS, OTHERS, NUMBERED))
    fits = re.fullmatch(r"\w[\w -]*", name) and name == name.strip() and len(name.encode()) <= LONGEST
    return name if fits and not means_else else f"class {label}"
