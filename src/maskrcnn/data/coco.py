"""COCO annotations as columns: one array per field, objects sorted by image, outlines packed.

A file of 860,000 objects becomes a few arrays that threads and processes share, instead of millions of Python objects.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from maskrcnn.data.annotation_cache import packed
from maskrcnn.data.names import Names
from maskrcnn.files import listing
from maskrcnn.masks import Rings


@dataclass(frozen=True)
class CocoData:
    """One split. Images stand in the order of the file, objects in the order of their images."""

    annotations: Path
    images: Path
    image_ids: Int64[np.ndarray, " N"]
    file_names: Sequence[str]
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
    without objects stay. A large file is parsed once and then read from a cache, which tells the same.
    Raises FileNotFoundError or ValueError: one sentence with file, ids and what to do.
    """
    columns = packed(annotations)
    names = Names(columns.name_text, columns.first_letter)
    _check_pictures(names, columns.image_ids, annotations, images)
    return CocoData(
        annotations=annotations,
        images=images,
        image_ids=columns.image_ids,
        file_names=names,
        sizes=columns.sizes,
        first_object=columns.first_object,
        annotation_ids=columns.annotation_ids,
        labels=columns.labels,
        boxes=columns.boxes,
        crowd=columns.crowd,
        rings=Rings(columns.points, columns.first_point),
        first_ring=columns.first_ring,
        category_ids=tuple(columns.category_ids.tolist()),
        category_names=columns.category_names,
        notes=columns.notes,
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


def _check_pictures(names: Names, ids: Int64[np.ndarray, " N"], annotations: Path, images: Path) -> None:
    if not images.is_dir():
        raise FileNotFoundError(f"the picture folder {images} of {annotations} does not exist; correct its path")
    missing = _missing(names, images)
    if missing:
        raise FileNotFoundError(
            f"{images} lacks {names[missing[0]]} of image {ids[missing[0]]} ({len(missing)} of {len(names)} pictures "
            f"are missing); {annotations} names it: complete the folder or remove the entries"
        )


def _missing(names: Names, images: Path) -> list[int]:
    """Places of names that are no files below the folder.

    Folders are listed, as to ask for each file takes far longer, and names compared as they lie in memory.
    """
    encoded = names.encoded()
    parents = {name.rpartition(b"/")[0] for name in encoded} if ord("/") in names.text else {b""}
    present: set[bytes] = set()
    for parent in parents:
        with suppress(OSError):
            found = os.listdir(os.path.join(os.fsencode(images), parent))
            present.update([parent + b"/" + name for name in found] if parent else found)
    if present.issuperset(encoded):
        return []
    return [
        place for place, name in enumerate(encoded) if name not in present and not (images / names[place]).is_file()
    ]
