"""Folders of masks in which the value of a pixel is the number of its object: what Cellpose and StarDist take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os.path import basename, commonpath, relpath
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.class_folders import class_file, class_of, folder_of, read_classes, write_classes
from maskrcnn.data.formats.id_image import (
    NO_IMAGE,
    NO_MASK,
    open_pair,
    outlines_of_ids,
    read_ids,
    save_ids,
)
from maskrcnn.data.formats.instances_layout import LOSSY, WORDS, Layout, Pair, inner_folders, layouts, pairs
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.painting import paint
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.source import Folder, Source, part_of
from maskrcnn.data.formats.threads import look_at
from maskrcnn.masks import Rings, parts_of_bitmap, signed_areas
from maskrcnn.sentences import some_of

TITLE = "masks of object numbers"
TRIED = 3
"""Masks of a folder that are opened to see whether they are such."""
MOST_NUMBERS = 0.02
"""Share of a mask's pixels that may have a number of their own; an image that somebody drew on has more."""
MARK = "instances.txt"
"""File beside that of the classes which says that each number is an object, whatever the masks look like."""
MARKED = "Each number in a mask is one object of its image, also where it has several parts.\n"
FULL = 255
SEMANTIC_PARTS = 2.0
"""Parts per number and mask from which on numbers are classes rather than objects."""
SIGNIFICANT = 0.1
"""Area of a part, as a share of the largest of its number, from which on it counts."""
ONE_VALUE = Kind(
    "mask-one-value",
    "masks",
    Severity.WARNING,
    "have one value for all objects; each part that hangs together is read as one, and objects that touch as one too",
)
SEMANTIC = Kind("mask-semantic", "masks", Severity.REFUSED, "seem to number classes, not objects")


class _Seen(NamedTuple):
    """What a mask says."""

    size: tuple[int, int]
    objects: list[tuple[int, Rings]]


def find(folder: Folder) -> list[Source]:
    """Folders of masks that are named as the images beside them, or in the folder beside."""
    return [
        _source(folder, layout, len(found))
        for layout, found in layouts(folder).items()
        if _is_marked(class_file(folder, layout.masks)) or _are_numbers(layout, found)
    ]


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. The objects' masks come exactly as they are in the files; 0 is background.

    Raises ValueError where no mask has an image.
    """
    layout = Layout(source.labels, source.images)
    folder = Folder(Path(commonpath(layout)))
    found, orphans, bare = pairs(folder, layout, inner_folders(folder))
    files = [path for pair in found for path in (pair.mask, pair.image)]
    if source.names is not None and _is_marked(source.names):
        files.append(str(source.names.parent / MARK))
    return kept(source, faults, files, lambda: _read(source, found, orphans, bare, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write `images/`, `masks/`, `classes.txt` and the mark that numbers are objects.

    Several classes have a folder of masks each. A split with a name has a folder of that name around both.
    """
    losses = Losses("a folder of masks")
    for part, data in splits.items():
        root = dest / part
        names = losses.renamed(data, place(data, root / "images", by_stem=True))
        for image, name in enumerate(names):
            _write_masks(data, image, root / "masks", name, losses)
        losses.add("crowd regions are left out", int(data.crowd.sum()))
        losses.count(data)
        write_classes(data, dest)
    (dest / MARK).write_text(MARKED, encoding="utf-8")
    return losses.sentences()


def _source(folder: Folder, layout: Layout, num: int) -> Source:
    masks, images = (place.relative_to(folder.root) for place in layout)
    where = "beside their images" if masks == images else f"named as the images in {images.as_posix()}"
    return Source(
        format="instances",
        part=part_of(masks) or part_of(images),
        labels=layout.masks,
        images=layout.images,
        why=f"{masks.as_posix()} holds {num} masks of object numbers {where}",
        names=class_file(folder, layout.masks),
    )


def _are_numbers(layout: Layout, found: Sequence[Pair]) -> bool:
    """Whether the first masks number objects; a file that is none is said so by `read` where its folder is of masks."""
    for pair in found[:TRIED]:
        if pair.mask.lower().endswith(LOSSY):
            continue
        try:
            ids = read_ids(Path(pair.mask))
        except (OSError, ValueError):
            return bool(WORDS.search(layout.masks.name.lower()))
        if len(np.unique(ids)) > max(16, MOST_NUMBERS * ids.size):
            return False
    return True


def _read(
    source: Source, found: Sequence[Pair], orphans: Sequence[str], bare: Sequence[str], faults: Faults
) -> Dataset:
    classes = read_classes(source.names, faults)
    faults.add(NO_IMAGE, map(basename, orphans))
    faults.add(NO_MASK, map(basename, bare))
    seen = list(_look(found, faults, parts=False))
    is_marked = _is_marked(source.names)
    if not is_marked and _are_classes(seen):
        _refuse_classes(source, found, seen, faults)
        seen = [one and _Seen(one.size, []) for one in seen]
    elif not is_marked and _have_one_value(seen):
        faults.add(ONE_VALUE, (basename(pair.mask) for pair in found))
        seen = list(_look(found, Faults(), parts=True))
    builder = Builder(source.labels, source.images, faults, classes)
    broken = {pair.image for pair, one in zip(found, seen, strict=True) if one is None}
    indices: dict[str, int] = {}
    for pair, one in zip(found, seen, strict=True):
        if one is None or pair.image in broken:
            continue
        if pair.image not in indices:
            indices[pair.image] = builder.add_image(Path(pair.image).relative_to(source.images).as_posix(), one.size)
        for _, rings in one.objects:
            builder.add_object(indices[pair.image], class_of(pair.name, classes), rings, flags=Flag.RUN_LENGTHS)
    data = builder.dataset()
    known = [*(pair.mask for pair in found), *orphans, *bare]
    return replace(data, known_files=[relpath(path, source.images) for path in known])


def _is_marked(classes: Path | None) -> bool:
    """Whether a mark beside the file of classes says that numbers are objects."""
    return classes is not None and (classes.parent / MARK).is_file()


def _look(found: Sequence[Pair], faults: Faults, *, parts: bool) -> Iterator[_Seen | None]:
    """What each mask says; parts: each part of it is an object."""

    def look(pair: Pair, faults: Faults) -> _Seen | None:
        ids = open_pair(Path(pair.image), Path(pair.mask), faults)
        if ids is None:
            return None
        height, width = ids.shape
        return _Seen((height, width), outlines_of_ids(parts_of_bitmap(ids) if parts else ids))

    yield from look_at(found, look, faults)


def _num_parts(rings: Rings) -> int:
    areas = signed_areas(rings)
    return int((areas >= SIGNIFICANT * areas.max()).sum())


def _are_classes(seen: Sequence[_Seen | None]) -> bool:
    """Whether numbers seem to be those of classes: most have several parts in each mask, and there are several."""
    parts = [_num_parts(rings) for one in seen if one for _, rings in one.objects]
    numbers = {id for one in seen if one for id, _ in one.objects}
    return len(numbers) > 1 and len(parts) > 1 and sum(parts) >= SEMANTIC_PARTS * len(parts)


def _refuse_classes(source: Source, found: Sequence[Pair], seen: Sequence[_Seen | None], faults: Faults) -> None:
    numbers = sorted({id for one in seen if one for id, _ in one.objects})
    sentence = (
        f"{source.labels}: the numbers {some_of(numbers)} stand for several separate areas in most masks, as classes "
        "do in semantic segmentation, or as objects in many pieces; give each object a number of its own"
    )
    faults.add(SEMANTIC, (basename(pair.mask) for pair in found), sentence)


def _have_one_value(seen: Sequence[_Seen | None]) -> bool:
    """Whether all masks have one number, and it does not seem to be that of one object."""
    objects = [(id, rings) for one in seen if one for id, rings in one.objects]
    several = sum(_num_parts(rings) > 1 for _, rings in objects)
    if len({id for id, _ in objects}) != 1 or not several:
        return False
    return objects[0][0] == FULL or (len(objects) > 1 and 2 * several > len(objects))


def _write_masks(data: Dataset, image: int, folder: Path, name: str, losses: Losses) -> None:
    """The masks of one image: one, or one for each class. An image without objects has an empty one."""
    objects = [index for index in range(*data.objects(image).indices(len(data.labels))) if not data.crowd[index]]
    several = len(data.category_names) > 1
    labels = sorted({int(data.labels[index]) for index in objects}) or [1]
    for label in labels if several else [1]:
        chosen = [index for index in objects if not several or data.labels[index] == label]
        # One object alone has the number 1 or 2, so that not all masks have one value, which could mean all objects.
        ids = paint(data, image, chosen, losses, [1 + image % 2] if len(chosen) == 1 else None)
        inner = folder / folder_of(data, label) if several else folder
        save_ids(ids, (inner / name).with_suffix(".png"))
