"""Where files of Pascal VOC lie, as VOC itself, CVAT, labelme and Roboflow lay them out."""

from collections.abc import Iterator
from pathlib import Path

from maskrcnn.data.encodings import read_text
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.source import PARTS, Folder, Part, Source, part_of
from maskrcnn.data.formats.voc_boxes import is_box_file
from maskrcnn.data.sources import SUFFIXES

OBJECTS, CLASSES, BOXES, IMAGES = "SegmentationObject", "SegmentationClass", "Annotations", "JPEGImages"
LISTS, BOX_LISTS = "ImageSets/Segmentation", "ImageSets/Main"
"""Folders of the files that name the images of a split."""
TRIED = 3
"""XML files of a folder that are opened to see whether they are VOC's."""


def sources(folder: Folder) -> list[Source]:
    """Splits below a folder. Where there are masks of objects, XML files beside them are not looked at."""
    found: list[Source] = []
    roots = {path.parent: path for path in folder.files if path.name in (CLASSES, OBJECTS)}
    for root in roots:
        labels = root / OBJECTS if root / OBJECTS in folder.files else root / CLASSES
        why = f"{_told(folder, labels)}/ holds a PNG for each image"
        found += _by_lists(folder, labels, root / LISTS, _images(folder, root), why)
    for labels in _box_folders(folder):
        if labels.parent not in roots:
            images = labels.parent / IMAGES if labels.parent / IMAGES in folder.files else _beside(folder, labels)
            why = f"{_told(folder, labels)} holds XML files of boxes"
            found += _by_lists(folder, labels, labels.parent / BOX_LISTS, images, why)
    return found


def listed(source: Source) -> list[str]:
    """The names, without ending, of a split's images."""
    if source.names is not None:
        lines = (line.strip().strip('"') for line in read_text(source.names, Faults()).splitlines())
        return list(dict.fromkeys(line for line in lines if line and ".." not in line.split("/")))
    ending = ".png" if source.labels.name in (OBJECTS, CLASSES) else ".xml"
    return [path.relative_to(source.labels).with_suffix("").as_posix() for path in Folder(source.labels).having(ending)]


def _by_lists(folder: Folder, labels: Path, lists: Path, images: Path, why: str) -> Iterator[Source]:
    """A split for each list that bears the name of one; `trainval` where there is no other; all where there is none."""
    names = {name[:-4].lower(): lists / name for name in folder.files.get(lists, ()) if name.endswith(".txt")}
    parts: dict[Part, Path] = {PARTS[name]: path for name, path in names.items() if PARTS.get(name)}
    rest: Path | None = names.get("trainval") or names.get("default")
    if parts:
        yield from (
            Source("voc", part, labels, images, f"{why}, and {path.name} lists a split", path)
            for part, path in parts.items()
        )
    else:
        yield Source("voc", part_of(labels.relative_to(folder.root)), labels, images, why, rest)


def _images(folder: Folder, root: Path) -> Path:
    """The folder of the images: VOC's, else the one beside the masks that has images of any other kind."""
    if root / IMAGES in folder.files:
        return root / IMAGES
    masks = {OBJECTS, CLASSES, f"{CLASSES}Visualization", f"{OBJECTS}Visualization", f"{CLASSES}PNG", f"{OBJECTS}PNG"}
    beside = [path for path in folder.files if path.parent == root and path.name not in masks]
    return next((path for path in beside if any(_is_image(name) for name in folder.files[path])), root / IMAGES)


def _box_folders(folder: Folder) -> Iterator[Path]:
    for path, names in folder.files.items():
        files = [path / name for name in names if name.lower().endswith(".xml")][:TRIED]
        if files and all(is_box_file(one) for one in files):
            yield path


def _beside(folder: Folder, labels: Path) -> Path:
    """The folder of images of XML files: the same, or the one beside it of which most names agree."""
    stems = {name[:-4] for name in folder.files[labels] if name.endswith(".xml")}
    near = [labels, *(path for path in folder.files if path.parent == labels.parent and path != labels), labels.parent]
    return max(
        near, key=lambda path: len({Path(name).stem for name in folder.files.get(path, ()) if _is_image(name)} & stems)
    )


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _told(folder: Folder, path: Path) -> str:
    inner = path.relative_to(folder.root).as_posix()
    return inner if inner != "." else "the folder itself"
