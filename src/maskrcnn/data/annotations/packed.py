"""What an annotation file says, as a few arrays: checked, objects sorted by image, outlines packed as rings."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8
from msgspec import Raw

from maskrcnn.data.annotations.annotation_file import AnnotationEntry, AnnotationFile, ImageEntry, decode_row, parse
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.outlines import Outlines, arrange_outlines, read_outlines
from maskrcnn.data.annotations.scan import Scanned, scan

SLICE = 4096
"""Annotations that a thread takes at once."""
THREADS = 4


class Packed(NamedTuple):
    """Arrays and words of one annotation file; `Dataset` says what they mean."""

    image_ids: Int64[np.ndarray, " N"]
    name_text: UInt8[np.ndarray, " T"]
    first_letter: Int64[np.ndarray, " N+1"]
    sizes: Int64[np.ndarray, "N 2"]
    first_object: Int64[np.ndarray, " N+1"]
    annotation_ids: Int64[np.ndarray, " O"]
    labels: Int64[np.ndarray, " O"]
    boxes: Float32[np.ndarray, "O 4"]
    crowd: Bool[np.ndarray, " O"]
    points: Float32[np.ndarray, "V 2"]
    first_point: Int32[np.ndarray, " R+1"]
    first_ring: Int64[np.ndarray, " O+1"]
    category_ids: Int64[np.ndarray, " K"]
    category_names: tuple[str, ...]
    notes: tuple[str, ...]


class Objects(NamedTuple):
    """Annotations without those that are left out."""

    ids: Int64[np.ndarray, " n"]
    images: Int64[np.ndarray, " n"]
    """Their places in the file."""
    labels: Int64[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    crowd: Bool[np.ndarray, " n"]


class Content(NamedTuple):
    """All that a file says, in its order."""

    image_ids: Int64[np.ndarray, " N"]
    names: Names
    sizes: Int64[np.ndarray, "N 2"]
    category_ids: Int64[np.ndarray, " K"]
    category_names: tuple[str, ...]
    objects: Objects
    outlines: list[Outlines]
    notes: tuple[str, ...]


class Part(NamedTuple):
    """Some annotations that stand together in the file."""

    objects: Objects
    outlines: Outlines
    left_out: Int64[np.ndarray, " m"]
    """Ids of those without a box inside their image."""


class _Register(NamedTuple):
    """Ids that annotations name."""

    noun: str
    ids: Int64[np.ndarray, " n"]
    """In ascending order."""
    places: Int64[np.ndarray, " n"]
    """Where the file has them."""


def read_content(text: bytes, path: Path) -> Content:
    """What the text of an annotation file says. Raises ValueError: one sentence with file, ids and what to do."""
    file = parse(text, path)
    _check_images(file.images, path)
    categories = sorted(file.categories, key=lambda category: category.id)
    image_ids = np.array([image.id for image in file.images], np.int64)
    category_ids = np.array([category.id for category in categories], np.int64)
    _refuse_duplicates(image_ids, path, "image")
    _refuse_duplicates(category_ids, path, "category")
    if not categories:
        raise ValueError(f"{path}: `categories` is empty; give every class an id and a name")
    sizes = np.array([(image.height, image.width) for image in file.images], np.int64)

    images, labels = _register("image", image_ids), _register("category", category_ids)

    def read(start: int) -> Part:
        return _read_part(file, start, text, images, labels, sizes, path)

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(read, range(0, max(len(file.annotations), 1), SLICE)))
    left_out = np.concatenate([part.left_out for part in parts])
    objects = Objects(*map(np.concatenate, zip(*(part.objects for part in parts), strict=True)))
    outlines = [part.outlines for part in parts]
    _refuse_duplicates(np.concatenate([objects.ids, left_out]), path, "annotation")
    return Content(
        image_ids=image_ids,
        names=Names.pack([image.file_name for image in file.images]),
        sizes=sizes,
        category_ids=category_ids,
        category_names=tuple(category.name for category in categories),
        objects=objects,
        outlines=outlines,
        notes=tuple(_notes(left_out, outlines)),
    )


def arrange(content: Content) -> Packed:
    """The objects sorted by image."""
    order = np.argsort(content.objects.images, kind="stable")
    objects = Objects(*(column[order] for column in content.objects))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    rings, first_ring = arrange_outlines(content.outlines, places)
    return Packed(
        image_ids=content.image_ids,
        name_text=content.names.text,
        first_letter=content.names.first,
        sizes=content.sizes,
        first_object=np.searchsorted(objects.images, np.arange(len(content.image_ids) + 1)).astype(np.int64),
        annotation_ids=objects.ids,
        labels=objects.labels,
        boxes=objects.boxes,
        crowd=objects.crowd,
        points=rings.points,
        first_point=rings.first,
        first_ring=first_ring,
        category_ids=content.category_ids,
        category_names=content.category_names,
        notes=content.notes,
    )


def _check_images(images: Sequence[ImageEntry], path: Path) -> None:
    if not images:
        raise ValueError(f"{path}: `images` is empty; there is nothing to read")
    for image in images:
        if image.height <= 0 or image.width <= 0:
            raise ValueError(
                f"{path}: image {image.id} states height {image.height} and width {image.width}; both must be positive"
            )


def _register(noun: str, ids: Int64[np.ndarray, " n"]) -> _Register:
    places = np.argsort(ids)
    return _Register(noun, ids[places], places)


def _refuse_duplicates(ids: Int64[np.ndarray, " n"], path: Path, noun: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path}: {noun} id {values[counts > 1][0]} occurs more than once; ids must be unique")


def _read_part(
    file: AnnotationFile,
    start: int,
    text: bytes,
    images: _Register,
    labels: _Register,
    sizes: Int64[np.ndarray, "N 2"],
    path: Path,
) -> Part:
    """The next annotations from `start`."""
    rows = file.annotations[start : start + SLICE]
    stops = np.cumsum([*map(len, rows)], dtype=np.int64)
    joined = b"".join(rows)
    scanned = scan(np.frombuffer(joined, np.uint8), stops)
    others: dict[int, bytes | Raw] = {}
    for place in np.flatnonzero(scanned.strange_outline).tolist():
        begin, stop = scanned.segmentations[place]
        others[place] = joined[begin:stop]
    for place in np.flatnonzero(scanned.strange).tolist():
        row = decode_row(file, start + place, text, path)
        scanned.ids[place], scanned.image_ids[place] = row.id, row.image_id
        scanned.category_ids[place] = row.category_id
        scanned.boxes[place], scanned.crowd[place] = _box(row, path), bool(row.iscrowd)
        others[place] = row.segmentation
    image = _look_up(scanned.image_ids, images, scanned, path)
    label = _look_up(scanned.category_ids, labels, scanned, path)
    seen = _inside(scanned.boxes, sizes[image])
    columns = scanned.ids, image, 1 + label, scanned.boxes, scanned.crowd
    return Part(
        Objects(*(column[seen] for column in columns)),
        read_outlines(scanned, seen, others, sizes[image], path),
        left_out=scanned.ids[~seen],
    )


def _look_up(
    wanted: Int64[np.ndarray, " n"], register: _Register, scanned: Scanned, path: Path
) -> Int64[np.ndarray, " n"]:
    """Where the file has each wanted id."""
    found = np.searchsorted(register.ids, wanted).clip(max=len(register.ids) - 1)
    strange = np.flatnonzero(register.ids[found] != wanted)
    if len(strange):
        row = strange[0]
        raise ValueError(
            f"{path}: annotation {scanned.ids[row]} of image {scanned.image_ids[row]} names {register.noun} "
            f"{wanted[row]}, which the file does not list; add the {register.noun} or remove the annotation"
        )
    return register.places[found]


def _box(row: AnnotationEntry, path: Path) -> Float32[np.ndarray, "4"]:
    x, y, width, height = row.bbox
    with np.errstate(over="ignore"):
        box = np.array([x, y, x + width, y + height]).astype(np.float32)
    if not np.isfinite(box).all():
        raise ValueError(f"{path}: annotation {row.id} of image {row.image_id} has the box {row.bbox}; correct it")
    return box


def _inside(boxes: Float32[np.ndarray, "n 4"], sizes: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which boxes keep some area when cut to their image."""
    low = boxes[:, :2].clip(min=0)
    high = np.minimum(boxes[:, 2:], sizes[:, ::-1])
    return (high > low).all(axis=1)


def _notes(left_out: Int64[np.ndarray, " m"], outlines: Sequence[Outlines]) -> Iterator[str]:
    if len(left_out):
        yield (
            f"{len(left_out)} objects have no box of positive width and height inside their image "
            f"and are left out, first annotation {left_out[0]}"
        )
    if num_short := sum(piece.num_short for piece in outlines):
        yield f"{num_short} polygons of fewer than three points are left out"
    if num_boxes := sum(piece.num_boxes for piece in outlines):
        yield f"{num_boxes} objects have no outline; their boxes stand in for it"
