"""Cityscapes: images by city, numbers of objects as PNG, or their polygons."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import UInt32
from msgspec import Struct

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.decode import probe
from maskrcnn.data.encodings import read_bytes
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.id_image import BAD_MASK, NO_IMAGE, OTHER_SIZE, open_pair, outlines_of_ids, save_ids
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.painting import paint
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.source import PARTS, Folder, Source
from maskrcnn.data.formats.threads import look_at
from maskrcnn.data.sources import SUFFIXES
from maskrcnn.masks import Rings, bitmap_from_rings, rings_from_polygons, window_of

TITLE = "Cityscapes"
CLASSES = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""The classes that have objects, with their numbers in files: an object's is 1000 times that, and its own."""
MOST = 1000
"""Objects of one class in one image that have numbers."""
IMAGES, FINE, COARSE = "leftImg8bit", "gtFine", "gtCoarse"
NUMBERS, POLYGONS = "instanceIds.png", "polygons.json"
ENDINGS = [f"_{kind}_{ending}" for kind in (FINE, COARSE) for ending in (NUMBERS, POLYGONS)]
"""What ends the names of the files of labels."""
GROUP = "group"
"""What ends the name of a class where objects are not told apart: `cargroup`, a crowd region."""
NOT_OBJECTS = Kind(
    "cityscapes-region",
    "regions",
    Severity.NOTE,
    "have the number of an object but are none of the eight classes; left out",
)
GROUPS = "crowd regions are joined to one of their class and image"
BEYOND = f"objects beyond {MOST} of a class in one image are left out"


class _Object(NamedTuple):
    name: str
    crowd: bool
    rings: Rings


class _Shape(Struct):
    label: str
    polygon: list[tuple[float, float]]
    deleted: int = 0


class _Polygons(Struct, rename="camel"):
    img_height: int
    img_width: int
    objects: list[_Shape]


class _Entry(NamedTuple):
    image: Path
    labels: Path


def find(folder: Folder) -> list[Source]:
    """Splits below `leftImg8bit/` and `gtFine/`, or `gtCoarse/` where there is no other."""
    found = []
    for images in (path for path in folder.files if path.name == IMAGES):
        labels = next((images.parent / one for one in (FINE, COARSE) if images.parent / one in folder.files), None)
        for one in (path for path in folder.files if path.parent == labels):
            part = PARTS.get(one.name.removesuffix("_extra").lower())
            if part and _entries(one, images / one.name)[0]:
                why = f"{one.relative_to(folder.root).as_posix()} holds labels of {IMAGES}/{one.name}"
                found.append(Source("cityscapes", part, one, images / one.name, why))
    return found


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Groups are crowd regions; masks come from `instanceIds.png`, else from the polygons.

    Raises ValueError where there is no image.
    """
    entries, bare = _entries(source.labels, source.images)
    files = [path for entry in entries for path in entry]
    return kept(source, faults, files, lambda: _read(source, entries, bare, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write `leftImg8bit/` and `gtFine/` with `instanceIds.png` and `labelIds.png`; a split without a name is train.

    A city is the folder that an image lies in, else `city`.
    """
    losses = Losses(TITLE)
    for part, data in splits.items():
        names = losses.renamed(data, place(data, dest / IMAGES / (part or "train"), by_stem=True, moved=_in_city))
        for image, name in enumerate(names):
            labels = dest / FINE / (part or "train") / name.rpartition(f"_{IMAGES}")[0]
            _write_masks(data, image, labels, losses)
        others = [label for label, name in enumerate(data.category_names, 1) if name.lower() not in CLASSES]
        count = int(np.isin(data.labels, others).sum())
        losses.add(f"objects are of a class that {TITLE} lacks and are left out", count)
        losses.count(data)
    return losses.sentences()


def _in_city(name: str) -> str:
    path = PurePosixPath(name)
    city = "_".join(path.parent.parts) or "city"
    return f"{city}/{path.stem.removesuffix(f'_{IMAGES}')}_{IMAGES}{path.suffix}"


def _entries(labels: Path, images: Path) -> tuple[list[_Entry], list[Path]]:
    """(images with their labels, labels without an image); numbers go before polygons."""
    known = {
        path.relative_to(images).as_posix().partition(f"_{IMAGES}.")[0]: path
        for path in Folder(images).having(*SUFFIXES)
        if f"_{IMAGES}." in path.name
    }
    found: dict[str, Path] = {}
    for path in Folder(labels).having(".png", ".json"):
        ending = next((one for one in ENDINGS if path.name.endswith(one)), None)
        if ending is not None:
            key = path.relative_to(labels).as_posix().removesuffix(ending)
            if key not in found or path.suffix == ".png":
                found[key] = path
    entries = [_Entry(known[key], path) for key, path in sorted(found.items()) if key in known]
    return entries, [path for key, path in found.items() if key not in known]


def _read(source: Source, entries: Sequence[_Entry], bare: Sequence[Path], faults: Faults) -> Dataset:
    faults.add(NO_IMAGE, (path.name for path in bare))
    builder = Builder(source.labels, source.images, faults, list(CLASSES))
    for entry, seen in zip(entries, look_at(entries, _look, faults), strict=True):
        if seen is not None:
            size, objects = seen
            index = builder.add_image(entry.image.relative_to(source.images).as_posix(), size)
            for name, crowd, rings in objects:
                builder.add_object(index, name, rings, flags=Flag.RUN_LENGTHS, crowd=crowd)
    return builder.dataset()


def _look(entry: _Entry, faults: Faults) -> tuple[tuple[int, int], list[_Object]] | None:
    """(size of an image, its objects)."""
    is_drawn = entry.labels.suffix == ".json"
    ids = _drawn(entry, faults) if is_drawn else open_pair(entry.image, entry.labels, faults)
    if ids is None:
        return None
    names = {number: name for name, number in CLASSES.items()}
    objects, others = [], 0
    for id, rings in outlines_of_ids(ids):
        number = id if id < MOST else id // MOST
        others += number not in names and id >= MOST
        if number in names:
            objects.append(_Object(names[number], id < MOST, rings))
    faults.add(NOT_OBJECTS, entry.labels.name, count=others)
    height, width = ids.shape
    return (height, width), objects


def _drawn(entry: _Entry, faults: Faults) -> UInt32[np.ndarray, "h w"] | None:
    """The numbers that polygons stand for, or nothing, which is reported."""
    try:
        content = msgspec.json.decode(read_bytes(entry.labels), type=_Polygons)
        stated, size = (content.img_height, content.img_width), probe(entry.image).size
        if stated == size:
            return _painted(content.objects, *size)
    except (OSError, ValueError, RecursionError) as error:
        faults.add(BAD_MASK, entry.labels.name, f"{entry.labels}: {error}; restore it or its image {entry.image.name}")
        return None
    sentence = f"{entry.labels} says (height, width) {stated}, its image is {size}; correct it"
    faults.add(OTHER_SIZE, entry.labels.name, sentence)
    return None


def _painted(shapes: Sequence[_Shape], height: int, width: int) -> UInt32[np.ndarray, "{height} {width}"]:
    """Polygons as an image of numbers: each is drawn over those before it."""
    ids = np.zeros((height, width), np.uint32)
    counts = dict.fromkeys(CLASSES, 0)
    for shape in shapes:
        if shape.deleted or len(shape.polygon) < 3:
            continue
        number = CLASSES.get(shape.label.removesuffix(GROUP), 0)
        if shape.label in CLASSES:
            number = number * MOST + min(counts[shape.label], MOST - 1)
            counts[shape.label] += 1
        rings = rings_from_polygons([[side for point in shape.polygon for side in point]])
        top, left, bottom, right = window = window_of(rings, height, width)
        ids[top:bottom, left:right][bitmap_from_rings(rings, window)] = number
    return ids


def _write_masks(data: Dataset, image: int, labels: Path, losses: Losses) -> None:
    """The numbers of objects and of classes of one image. labels: path without what ends the names of both files."""
    chosen = range(*data.objects(image).indices(len(data.labels)))
    kinds = {index: CLASSES.get(data.category_names[data.labels[index] - 1].lower(), 0) for index in chosen}
    crowds = {index: kind for index, kind in kinds.items() if kind and data.crowd[index]}
    numbers: dict[int, int] = {}
    counts = dict.fromkeys(kinds.values(), 0)
    for index, kind in kinds.items():
        if kind and index not in crowds:
            losses.add(BEYOND, counts[kind] >= MOST)
            if counts[kind] < MOST:
                numbers[index] = kind * MOST + counts[kind]
            counts[kind] += 1
    losses.add(GROUPS, len(crowds) - len(set(crowds.values())))
    ids = paint(data, image, numbers, losses, list(numbers.values()))
    ids = np.where(ids > 0, ids, paint(data, image, crowds, losses, list(crowds.values())))
    save_ids(ids, labels.with_name(f"{labels.name}_{FINE}_{NUMBERS}"))
    save_ids(np.where(ids < MOST, ids, ids // MOST), labels.with_name(f"{labels.name}_{FINE}_labelIds.png"))
