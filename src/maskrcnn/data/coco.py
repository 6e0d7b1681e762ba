"""COCO annotations as columns: one array per field, objects sorted by image, outlines packed.

A file of 860,000 objects becomes a few arrays that threads share, instead of millions of Python objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from maskrcnn.data.annotation_file import AnnotationEntry, ImageEntry, listing, parse
from maskrcnn.data.outlines import pack_outlines
from maskrcnn.masks import Rings


@dataclass(frozen=True)
class CocoData:
    """One split. Images stand in the order of the file, objects in the order of their images."""

    annotations: Path
    images: Path
    image_ids: Int64[np.ndarray, " N"]
    file_names: list[str]
    """Below `images`."""
    sizes: Int64[np.ndarray, "N 2"]
    """(height, width) as the file states them: the frame of boxes and outlines."""
    first_object: Int64[np.ndarray, " N+1"]
    """Image i owns objects first_object[i] : first_object[i + 1]."""
    annotation_ids: Int64[np.ndarray, " O"]
    labels: Int64[np.ndarray, " O"]
    """1..K in ascending order of category ids."""
    boxes: Float32[np.ndarray, "O 4"]
    """xyxy."""
    crowd: Bool[np.ndarray, " O"]
    rings: Rings
    first_ring: Int64[np.ndarray, " O+1"]
    """Object o owns rings first_ring[o] : first_ring[o + 1]."""
    category_ids: tuple[int, ...]
    """In label order: label k has category_ids[k - 1]."""
    category_names: tuple[str, ...]
    notes: tuple[str, ...]
    """What was repaired or left out, one sentence each."""


def read(annotations: Path, images: Path) -> CocoData:
    """Read and check a COCO instances file whose pictures lie in the folder `images`.

    Objects without a box or whose box lies outside their image are dropped, and `notes` says how many; images
    without objects stay. Raises FileNotFoundError or ValueError: one sentence with file, ids and what to do.
    """
    file = parse(annotations)
    _check_images(file.images, annotations, images)
    image_ids = np.array([image.id for image in file.images], np.int64)
    sizes = np.array([(image.height, image.width) for image in file.images], np.int64)
    categories = sorted(file.categories, key=lambda category: category.id)
    category_ids = np.array([category.id for category in categories], np.int64)
    _refuse_duplicates(image_ids, annotations, "image")
    _refuse_duplicates(category_ids, annotations, "category")
    if not categories:
        raise ValueError(f"{annotations}: `categories` is empty; give every class an id and a name")

    notes: list[str] = []
    rows = file.annotations
    _refuse_duplicates(np.array([row.id for row in rows], np.int64), annotations, "annotation")
    image = _look_up(np.array([row.image_id for row in rows], np.int64), image_ids, rows, annotations, "image")
    label = 1 + _look_up(
        np.array([row.category_id for row in rows], np.int64), category_ids, rows, annotations, "category"
    )
    boxes = _boxes(rows, annotations)
    seen = _inside(boxes, sizes[image])
    if not seen.all():
        notes.append(
            f"{np.count_nonzero(~seen)} objects have no box of positive width and height inside their image "
            f"and are left out, first annotation {rows[np.flatnonzero(~seen)[0]].id}"
        )
    order = np.argsort(image, kind="stable")
    order = order[seen[order]]
    rows, image, boxes = [rows[i] for i in order], image[order], boxes[order]

    rings, first_ring, found = pack_outlines(rows, boxes, sizes[image], annotations)
    return CocoData(
        annotations=annotations,
        images=images,
        image_ids=image_ids,
        file_names=[image.file_name for image in file.images],
        sizes=sizes,
        first_object=np.searchsorted(image, np.arange(len(image_ids) + 1)).astype(np.int64),
        annotation_ids=np.array([row.id for row in rows], np.int64),
        labels=label[order],
        boxes=boxes,
        crowd=np.array([bool(row.iscrowd) for row in rows], bool),
        rings=rings,
        first_ring=first_ring,
        category_ids=tuple(category_ids.tolist()),
        category_names=tuple(category.name for category in categories),
        notes=(*notes, *found),
    )


def find_split(dataset_dir: str | Path, img_dir: str, anno_path: str) -> tuple[Path, Path]:
    """The annotation file and the picture folder of one split.

    `annotation/` stands in for a missing `annotations/` and the other way round.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"the data set's folder {root} does not exist; set data.dataset_dir to it")
    images = root / img_dir
    if not images.is_dir():
        raise FileNotFoundError(f"the picture folder {images} does not exist; {root} holds {listing(root)}")
    first, *rest = Path(anno_path).parts or ("",)
    other = {"annotations": "annotation", "annotation": "annotations"}.get(first, first)
    for annotations in (root / anno_path, root.joinpath(other, *rest)):
        if annotations.is_file():
            return annotations, images
    folder = next((path for path in (root / first, root / other) if path.is_dir()), root)
    raise FileNotFoundError(f"the annotation file {root / anno_path} does not exist; {folder} holds {listing(folder)}")


def summary(data: CocoData) -> str:
    """What was read, for a person to check once at the start."""
    counts = np.bincount(data.labels, minlength=len(data.category_ids) + 1)[1:]
    empty = np.count_nonzero(np.diff(data.first_object) == 0)
    lines = [
        f"{data.annotations}: {len(data.image_ids)} images ({empty} without objects), {len(data.labels)} objects "
        f"({np.count_nonzero(data.crowd)} crowd regions), {len(data.category_ids)} categories",
        "  "
        + ", ".join(
            f"{name} (id {id}): {count}"
            for name, id, count in zip(data.category_names, data.category_ids, counts, strict=True)
        ),
    ]
    return "\n".join(lines + [f"  note: {note}" for note in data.notes])


def _check_images(rows: Sequence[ImageEntry], annotations: Path, images: Path) -> None:
    if not rows:
        raise ValueError(f"{annotations}: `images` is empty; there is nothing to read")
    if not images.is_dir():
        raise FileNotFoundError(f"the picture folder {images} of {annotations} does not exist; correct its path")
    for row in rows:
        if row.height <= 0 or row.width <= 0:
            raise ValueError(
                f"{annotations}: image {row.id} states height {row.height} and width {row.width}; both must be positive"
            )
    present = {path.name for path in images.iterdir()}
    missing = [row for row in rows if row.file_name not in present and not (images / row.file_name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{images} lacks {missing[0].file_name} of image {missing[0].id} ({len(missing)} of {len(rows)} pictures "
            f"are missing); {annotations} names it: complete the folder or remove the entries"
        )


def _refuse_duplicates(ids: Int64[np.ndarray, " n"], path: Path, noun: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path}: {noun} id {values[counts > 1][0]} occurs more than once; ids must be unique")


def _look_up(
    wanted: Int64[np.ndarray, " n"],
    ids: Int64[np.ndarray, " m"],
    rows: Sequence[AnnotationEntry],
    path: Path,
    noun: str,
) -> Int64[np.ndarray, " n"]:
    """Position of each wanted id."""
    order = np.argsort(ids)
    position = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    strange = np.flatnonzero(ids[position] != wanted)
    if len(strange):
        row = rows[strange[0]]
        raise ValueError(
            f"{path}: annotation {row.id} of image {row.image_id} names {noun} {wanted[strange[0]]}, which the file "
            f"does not list; add the {noun} or remove the annotation"
        )
    return position


def _boxes(rows: Sequence[AnnotationEntry], path: Path) -> Float32[np.ndarray, "n 4"]:
    boxes = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    with np.errstate(over="ignore"):
        narrow = boxes.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(broken):
        row = rows[broken[0]]
        raise ValueError(f"{path}: annotation {row.id} of image {row.image_id} has the box {row.bbox}; correct it")
    return narrow


def _inside(boxes: Float32[np.ndarray, "n 4"], sizes: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which boxes keep some area when cut to their image."""
    low = boxes[:, :2].clip(min=0)
    high = np.minimum(boxes[:, 2:], sizes[:, ::-1])
    return (high > low).all(axis=1)
