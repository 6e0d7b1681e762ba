"""A folder for each image with one mask for each object, as in the Data Science Bowl 2018."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.decode import probe
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.class_folders import class_file, class_of, folder_of, read_classes, write_classes
from maskrcnn.data.formats.id_image import BAD_MASK, open_fitting, outlines_of_ids, save_ids
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.source import Folder, Source, part_of
from maskrcnn.data.formats.threads import look_at
from maskrcnn.data.sources import is_image
from maskrcnn.masks import Rings, bitmap_from_rings

TITLE = "DSB2018 (one mask for each object)"
IMAGES, MASKS = "images", "masks"
NOT_ONE_IMAGE = Kind(
    "object-masks-of-no-image",
    "folders",
    Severity.REFUSED,
    "hold masks beside no image or several",
    "they are left out",
)
EMPTY = Kind("object-mask-empty", "masks", Severity.WARNING, "have no pixel and are left out")


class _Entry(NamedTuple):
    """An image and its masks, each with its class."""

    image: Path
    masks: list[tuple[Path, str]]


def find(folder: Folder) -> list[Source]:
    """Folders in which each one has `images/` with one image and `masks/` with files that are not named as it."""
    return [_source(folder, root, len(found)) for root, found in _entries(folder).items()]


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Each object's mask comes exactly as it is in its file, also where objects overlap.

    Raises ValueError where there is no image.
    """
    folder = Folder(source.images)
    entries = _entries(folder).get(source.images, [])
    files = [path for entry in entries for path in (entry.image, *(mask for mask, _ in entry.masks))]
    for home in _without_one_image(folder):
        found = ", ".join(filter(is_image, folder.files.get(home / IMAGES, ()))) or "none"
        faults.add(NOT_ONE_IMAGE, home.name, f"{home / IMAGES}: expected one image, found {found}; leave one there")
    return kept(source, faults, files, lambda: _read(source, entries, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write `<name>/images/<name>.png` and `<name>/masks/*.png`, below a folder of the split's name where it has one.

    Several classes have a folder of masks each, and `classes.txt` names them all.
    """
    losses = Losses("a folder of masks")
    for part, data in splits.items():
        root = dest / part
        names = losses.renamed(data, place(data, root, by_stem=True, moved=_in_own_folder))
        for image, name in enumerate(names):
            _write_masks(data, image, root / Path(name).parent.parent / MASKS, losses)
        losses.add("crowd regions are left out", int(data.crowd.sum()))
        losses.count(data)
        write_classes(data, dest)
    return losses.sentences()


def _in_own_folder(name: str) -> str:
    flat = PurePosixPath(name.replace("/", "_"))
    return f"{flat.stem}/{IMAGES}/{flat.name}"


def _entries(folder: Folder) -> dict[Path, list[_Entry]]:
    """What lies in the folders that are laid out so, by the folder around them."""
    below: dict[Path, list[tuple[Path, str]]] = {}
    for path in folder.files:
        if MASKS in (path.name, path.parent.name):
            home, name = (path.parent, "") if path.name == MASKS else (path.parent.parent, path.name)
            below.setdefault(home, []).append((path, name))
    found: dict[Path, list[_Entry]] = {}
    for home, places in below.items():
        images = [name for name in folder.files.get(home / IMAGES, ()) if is_image(name)]
        if len(images) == 1 and home != folder.root:
            masks = [(path / file, name) for path, name in places for file in folder.files[path] if is_image(file)]
            if not _is_named_after(images[0], masks):
                found.setdefault(home.parent, []).append(_Entry(home / IMAGES / images[0], masks))
    return found


def _without_one_image(folder: Folder) -> list[Path]:
    """Folders directly below with masks of objects, whose image cannot be told."""
    found = (path.relative_to(folder.root).parts for path in folder.files)
    homes = dict.fromkeys(folder.root / parts[0] for parts in found if parts[1:2] == (MASKS,))
    return [home for home in homes if sum(map(is_image, folder.files.get(home / IMAGES, ()))) != 1]


def _is_named_after(image: str, masks: Sequence[tuple[Path, str]]) -> bool:
    """Whether a mask of an image is named as it: then it is one mask of all its objects."""
    stem = Path(image).stem
    return any(path.stem == stem for path, _ in masks)


def _source(folder: Folder, root: Path, num: int) -> Source:
    inner = root.relative_to(folder.root)
    where = inner.as_posix() if inner.parts else "the folder itself"
    why = f"{where} holds {num} folders with one image in {IMAGES}/ and masks of its objects in {MASKS}/"
    return Source("dsb2018", part_of(inner), root, root, why, class_file(folder, root))


def _read(source: Source, entries: Sequence[_Entry], faults: Faults) -> Dataset:
    classes = read_classes(source.names, faults)
    builder = Builder(source.labels, source.images, faults, classes)
    for entry, seen in zip(entries, look_at(entries, _look, faults), strict=True):
        if seen is None:
            continue
        size, objects = seen
        index = builder.add_image(entry.image.relative_to(source.images).as_posix(), size)
        for name, rings in objects:
            builder.add_object(index, class_of(name, classes), rings, flags=Flag.RUN_LENGTHS)
    return builder.dataset()


def _look(entry: _Entry, faults: Faults) -> tuple[tuple[int, int], list[tuple[str, Rings]]] | None:
    """(size of an image, class and outline of each object); nothing where a mask does not fit."""
    try:
        header = probe(entry.image)
    except (OSError, ValueError) as error:
        faults.add(BAD_MASK, entry.image.name, str(error))
        return None
    objects, size = [], header.size
    for path, name in entry.masks:
        mask = open_fitting(path, header, entry.image.name, faults)
        if mask is None:
            return None
        size = mask.shape[0], mask.shape[1]
        outlines = outlines_of_ids((mask != 0).astype(np.uint8))
        if not outlines:
            faults.add(EMPTY, path.name)
        objects += [(name, rings) for _, rings in outlines]
    return size, objects


def _write_masks(data: Dataset, image: int, folder: Path, losses: Losses) -> None:
    """One file for each object; several classes have a folder each."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = data.sizes[image].tolist()
    for number, index in enumerate(range(*data.objects(image).indices(len(data.labels))), 1):
        if data.crowd[index]:
            continue
        mask = bitmap_from_rings(data.outline(index), (0, 0, height, width))
        if not mask.any():
            losses.add("objects have no pixel and are gone")
            continue
        losses.add("objects without an outline are written as their box", bool(data.flags[index] & Flag.NO_OUTLINE))
        inner = folder / folder_of(data, int(data.labels[index])) if len(data.category_names) > 1 else folder
        save_ids(mask * np.uint8(255), inner / f"{number:05}.png")
