"""Pascal VOC: masks of objects and of classes as PNG, or boxes as XML."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.decode import probe
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.id_image import BAD_MASK, open_pair, outlines_of_ids, save_ids
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.painting import paint
from maskrcnn.data.formats.pictures import Pictures
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.source import Folder, Source
from maskrcnn.data.formats.threads import look_at
from maskrcnn.data.formats.voc_boxes import read_boxes
from maskrcnn.data.formats.voc_classes import (
    VOID,
    VOID_CODE,
    Classes,
    colours,
    is_background,
    number_of,
    read_class_mask,
    read_classes,
    write_classes,
)
from maskrcnn.data.formats.voc_layout import CLASSES, IMAGES, LISTS, OBJECTS, listed, sources
from maskrcnn.masks import Rings

TITLE = "Pascal VOC"
OBJECT = "object"
"""Class of objects where no mask of classes tells it."""
UNNAMED = Kind(
    "voc-unnamed-class", "objects", Severity.WARNING, "have a class that no file names; it is called by number"
)
CLASSLESS = Kind(
    "voc-no-class-mask", "masks", Severity.WARNING, f"have no mask of classes beside them: every object is {OBJECT!r}"
)
NO_OBJECTS = Kind("voc-listed-without-mask", "images", Severity.NOTE, "are listed but have no mask: nothing is in them")
FROM_ZERO = Kind(
    "voc-from-zero", "files", Severity.NOTE, "count pixels from 0, not from 1 as VOC does, and were read so"
)


class _Files(NamedTuple):
    """What a split consists of."""

    pairs: list[tuple[Path, Path | None]]
    """Images and their masks of objects, which tools do not write where nothing is."""
    no_image: list[str]


class _Seen(NamedTuple):
    """What the masks of an image say."""

    size: tuple[int, int]
    objects: list[tuple[str, Rings]]


def find(folder: Folder) -> list[Source]:
    """Splits of VOC's folders: those with masks of objects, else those with XML files."""
    return sources(folder)


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Masks come exactly as they are in the files, without pixels of 255, which belong to nothing.

    Raises ValueError where nothing can be read, or there are masks of classes alone.
    """
    if source.labels.name == CLASSES:
        raise ValueError(
            f"{source.labels} tells classes of pixels (semantic segmentation), not objects; {OBJECTS}/ with a number "
            "for each object is needed beside it"
        )
    if not source.images.is_dir():
        raise FileNotFoundError(f"{source.images} does not exist; put the images of {source.labels} there")
    pictures = Pictures(Folder(source.images), faults)
    if source.labels.name != OBJECTS:
        return _read_boxes(source, pictures, faults)
    split = _files(source, pictures)
    files = [path for pair in split.pairs for path in pair if path is not None]
    return kept(source, faults, files, lambda: _read(source, split, pictures, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write images, masks of objects and of classes, lists of the splits, and CVAT's `labelmap.txt`."""
    losses = Losses(TITLE)
    taken: set[str] = set()
    for part, data in splits.items():
        names = losses.renamed(data, place(data, dest / IMAGES, by_stem=True, moved=_not_taken(taken, part)))
        stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
        for image, stem in enumerate(stems):
            _write_masks(data, image, dest, f"{stem}.png", losses)
        names_file = dest / LISTS / f"{part or 'default'}.txt"
        names_file.parent.mkdir(parents=True, exist_ok=True)
        names_file.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
        losses.add("crowd regions are written as void, which is neither object nor background", int(data.crowd.sum()))
        losses.count(data)
        write_classes(data.category_names, dest)
    return losses.sentences()


def _not_taken(taken: set[str], part: str) -> Callable[[str], str]:
    """What renames images whose name another split has."""

    def moved(name: str) -> str:
        path = PurePosixPath(name)
        while path.with_suffix("").as_posix().lower() in taken:
            path = path.with_name(f"{part or 'default'}_{path.name}")
        taken.add(path.with_suffix("").as_posix().lower())
        return path.as_posix()

    return moved


def _files(source: Source, pictures: Pictures) -> _Files:
    """The files of a split."""
    found = _Files([], [])
    for id in listed(source):
        path = PurePosixPath(id)
        image = pictures.of_stem(path.name, path.parent.as_posix() if path.parent.name else "")
        mask = source.labels / f"{id}.png"
        if image is None:
            found.no_image.append(id)
        else:
            found.pairs.append((source.images / image, mask if mask.is_file() else None))
    return found


def _read(source: Source, split: _Files, pictures: Pictures, faults: Faults) -> Dataset:
    faults.add(NO_OBJECTS, (image.name for image, mask in split.pairs if mask is None))
    for id in split.no_image:
        pictures.report_missing(f"{id}.jpg", source.names.name if source.names else f"{id}.png")
    classes = read_classes(source.labels.parent, faults)

    def look(pair: tuple[Path, Path | None], faults: Faults) -> _Seen | None:
        image, mask = pair
        if mask is not None:
            return _look(image, mask, source.labels, classes, faults)
        try:
            return _Seen(probe(image).size, [])
        except (OSError, ValueError) as error:
            faults.add(BAD_MASK, image.name, str(error))
            return None

    seen = list(look_at(split.pairs, look, faults))
    builder = Builder(source.labels, source.images, faults, classes.real)
    for (image, _), one in zip(split.pairs, seen, strict=True):
        if one is not None:
            index = builder.add_image(image.relative_to(source.images).as_posix(), one.size)
            for name, rings in one.objects:
                builder.add_object(index, name, rings, flags=Flag.RUN_LENGTHS)
    return builder.dataset()


def _look(image: Path, mask: Path, folder: Path, classes: Classes, faults: Faults) -> _Seen | None:
    ids = open_pair(image, mask, faults)
    if ids is None:
        return None
    other = folder.parent / CLASSES / mask.relative_to(folder)
    height, width = ids.shape
    ids[(ids == VOID) | (ids == VOID_CODE)] = 0
    found = outlines_of_ids(ids)
    if not other.is_file():
        faults.add(CLASSLESS, mask.name)
        return _Seen((height, width), [(OBJECT, rings) for _, rings in found])
    try:
        values, palette = read_class_mask(other)
    except ValueError as error:
        faults.add(BAD_MASK, other.name, str(error))
        return None
    if values.shape != ids.shape:
        faults.add(BAD_MASK, other.name, f"{other} has another size than {mask}; save both of one size")
        return None
    names = _names(ids, values, palette, classes)
    for id, name in names.items():
        if name not in classes.names:
            faults.add(UNNAMED, f"object {id} of {mask.name}")
    return _Seen((height, width), [(names[id], rings) for id, rings in found])


def _names(
    ids: UInt32[np.ndarray, "h w"], values: UInt32[np.ndarray, "h w"], palette: Mapping[int, int], classes: Classes
) -> dict[int, str]:
    """The class of each object: that of most of its pixels, apart from background and void."""
    inside = ids > 0
    both, counts = np.unique(ids[inside].astype(np.uint64) << 32 | values[inside], return_counts=True)
    best: dict[int, tuple[int, str]] = {}
    for id, value, count in zip((both >> 32).tolist(), (both % 2**32).tolist(), counts.tolist(), strict=True):
        name = "" if value in (VOID, VOID_CODE) else classes.name(value, palette.get(value))
        rank = 0 if is_background(name) else count
        best[id] = max(best.get(id, (-1, "")), (rank, OBJECT if rank == 0 else name))
    return {id: name for id, (_, name) in best.items()}


def _read_boxes(source: Source, pictures: Pictures, faults: Faults) -> Dataset:
    """What XML files say: boxes, which stand in for outlines."""
    builder = Builder(source.labels, source.images, faults)
    files = {id: read_boxes(source.labels / f"{id}.xml", faults) for id in listed(source)}
    corners = [box for file in files.values() if file for _, box, _ in file.objects]
    start = 0 if any(min(box[:2]) < 1 for box in corners) else 1
    faults.add(FROM_ZERO, count=len(files) * (1 - start))
    for id, file in files.items():
        if file is None:
            continue
        name = pictures.of_stem(PurePosixPath(id).name, "") or pictures.find(file.file_name)
        if name is None:
            pictures.report_missing(file.file_name or id, f"{id}.xml")
            continue
        size = pictures.size(name, file.size)
        if size is not None:
            index = builder.add_image(name, size)
            for class_name, (x1, y1, x2, y2), attributes in file.objects:
                box = (x1 - start, y1 - start, x2 - x1 + start, y2 - y1 + start)
                builder.add_object(index, class_name, None, box=box, attributes=attributes)
    return builder.dataset()


def _write_masks(data: Dataset, image: int, dest: Path, name: str, losses: Losses) -> None:
    """The masks of objects and of classes of one image."""
    chosen = range(*data.objects(image).indices(len(data.labels)))
    objects = [index for index in chosen if not data.crowd[index]]
    numbers = [number_of(place) for place in range(1, len(objects) + 1)]
    ids = paint(data, image, objects, losses, numbers)
    crowd = paint(data, image, [index for index in chosen if data.crowd[index]], losses)
    ids[(ids == 0) & (crowd > 0)] = VOID
    table = np.zeros(max([*numbers, VOID]) + 1, np.uint32)
    table[VOID] = VOID
    table[numbers] = [number_of(int(data.labels[index])) for index in objects]
    palette = colours(256).tobytes()
    save_ids(ids, dest / OBJECTS / name, palette)
    save_ids(table[ids], dest / CLASSES / name, palette)
