"""COCO instances files."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from maskrcnn.data.annotations.annotation_cache import packed, read_columns
from maskrcnn.data.annotations.annotation_file import open_file
from maskrcnn.data.annotations.image_lookup import find_names, hint, missing, sizes_of
from maskrcnn.data.annotations.inside import leads_out
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.packed import as_dataset
from maskrcnn.data.annotations.spelling import shown
from maskrcnn.data.dataset import Dataset, Flag, select
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.coco_extras import NOTHING, Extras
from maskrcnn.data.image_names import MISSING_IMAGE, OUTSIDE
from maskrcnn.files import atomic_write, is_special, listing
from maskrcnn.masks import counts_from_rings, decimals, strings_from_counts
from maskrcnn.sentences import typed

EITHER = {"annotations": "annotation", "annotation": "annotations"}
"""Names of the folder of annotation files, each with the one that stands in for it."""


def read(annotations: Path, images: Path | None = None, faults: Faults | None = None) -> Dataset:
    """Read and check a COCO instances file.

    images   the folder of its images, which must all be there; None where nothing looks at them
    faults   gathers all that is met, and what cannot be used is left out; None: that is refused
    What has one meaning is read however it is written; `flags` and `notes` say what is special. A large file is parsed
    once and then read from a cache, which tells the same; with `faults` it is parsed each time.
    Raises FileNotFoundError or ValueError: one sentence with file, ids and what to do.
    """
    sizes = None if images is None else partial(_sizes, annotations, images)
    if faults is None:
        columns = packed(annotations, sizes)
    else:
        with open_file(annotations) as stream:
            columns = read_columns(stream.read(), annotations, sizes, faults)
    data = as_dataset(columns, annotations, annotations.parent if images is None else images)
    return data if images is None else _with_images(data, images, faults)


def parse(content: dict[str, Any]) -> Dataset:
    """The same of a file's content in Python's objects. Counts may be bytes, numbers may be NumPy's."""
    source = Path("annotations")
    text = json.dumps(content, default=lambda value: value.decode() if isinstance(value, bytes) else value.tolist())
    return as_dataset(read_columns(text.encode(), source), source, Path())


def write(data: Dataset, path: Path, extras: Extras = NOTHING) -> None:
    """Write the columns as a COCO instances file, from which `read` gets the same ones.

    extras   what the file that they came from says besides
    Masks that came as run lengths are written as compressed ones, polygons with decimals that draw the same mask,
    objects without an outline without one. Polygons of fewer than three points are gone.
    """
    encode, ids = msgspec.json.encode, data.stated_ids or data.image_ids.tolist()
    images: list[dict[str, Any]] = [
        {"id": id, "file_name": name, "height": height, "width": width} | extras.of_image(id)
        for id, name, (height, width) in zip(ids, data.file_names, data.sizes.tolist(), strict=True)
    ]
    posed = labels_with_keypoints(data, extras)
    categories: list[dict[str, Any]] = [
        {"id": id, "name": name}
        | ({"keypoints": data.keypoint_names} if label in posed else {})
        | extras.of_class(data.origins[label - 1])
        for label, (id, name) in enumerate(zip(data.category_ids, data.category_names, strict=True), 1)
    ]
    with atomic_write(path) as draft, draft.open("wb") as file:
        head = encode({**extras.file, "images": images, "categories": categories})
        file.write(head[:-1] + b',"annotations":[')
        rows = (row for image in range(len(images)) for row in annotations_of(data, image, images[image]["id"], posed))
        for number, row in enumerate(rows):
            file.write(b",\n" * (number > 0) + encode(row))
        file.write(b"]}")


def segmentations(data: Dataset, image: int) -> list[Any]:
    """The masks of an image's objects as COCO writes them: polygons with the digits of their file, or run lengths."""
    size, chosen = data.sizes[image].tolist(), data.objects(image)
    first_ring = data.first_ring[chosen.start : chosen.stop + 1].tolist()
    first_point = data.rings.first[first_ring[0] : first_ring[-1] + 1].tolist()
    numbers = decimals(data.rings.points[first_point[0] : first_point[-1]]).ravel()
    polygons = [
        numbers[2 * (start - first_point[0]) : 2 * (stop - first_point[0])].tolist()
        for start, stop in pairwise(first_point)
    ]
    found: list[Any] = [polygons[start - first_ring[0] : stop - first_ring[0]] for start, stop in pairwise(first_ring)]
    indices = np.flatnonzero(data.flags[chosen] & Flag.RUN_LENGTHS)
    bounds = data.first_ring[chosen.start + indices[:, None] + [0, 1]]
    strings = strings_from_counts(*counts_from_rings(data.rings, bounds, *size))
    for index, string in zip(indices.tolist(), strings, strict=True):
        found[index] = {"size": size, "counts": string}
    return found


def labels_with_keypoints(data: Dataset, extras: Extras) -> set[int]:
    """Classes whose entry lists keypoints, or of which an object has some."""
    if data.keypoints is None:
        return set()
    named = {label for label, origin in enumerate(data.origins, 1) if extras.names_keypoints(origin)}
    return named | set(data.labels[data.keypoints.any(axis=(1, 2))].tolist())


def annotations_of(data: Dataset, image: int, id: int | str, posed: set[int]) -> Iterator[dict[str, Any]]:
    """What the rows of an image's objects say; keypoints in those of the classes that are posed."""
    chosen = data.objects(image)
    boxes = data.boxes_xywh(chosen).tolist()
    for index, box, outline in zip(range(chosen.start, chosen.stop), boxes, segmentations(data, image), strict=True):
        row: dict[str, Any] = {
            "id": int(data.annotation_ids[index]),
            "image_id": id,
            "category_id": data.category_ids[data.labels[index] - 1],
            "iscrowd": int(data.crowd[index]),
            "bbox": box,
            "segmentation": [] if data.flags[index] & Flag.NO_OUTLINE else outline,
        }
        if np.isfinite(data.areas[index]):
            row["area"] = float(data.areas[index])
        if data.keypoints is not None and data.labels[index] in posed:
            points = data.keypoints[index]
            row |= {"keypoints": points.ravel().tolist(), "num_keypoints": int(np.count_nonzero(points[:, 2]))}
        if data.attributes is not None and data.attributes[index]:
            row |= msgspec.json.decode(data.attributes[index])
        yield row


def find_split(dataset_dir: str | Path, img_dir: str, anno_path: str) -> tuple[Path, Path]:
    """The annotation file and the image folder of one split.

    `annotation/` stands in for a missing `annotations/` and the other way round.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"the data set's folder {root} does not exist; set data.dataset_dir to it")
    images = root / img_dir
    if not images.is_dir():
        raise FileNotFoundError(f"the image folder {images} does not exist; {root} holds {listing(root)}")
    first, *rest = Path(anno_path).parts or ("",)
    other = EITHER.get(first, first)
    for annotations in (root / anno_path, root.joinpath(other, *rest)):
        if annotations.is_file() or is_special(annotations):  # which reading refuses
            return annotations, images
    folder = next((path for path in (root / first, root / other) if path.is_dir()), root)
    raise FileNotFoundError(f"the annotation file {root / anno_path} does not exist; {folder} holds {listing(folder)}")


def names_of_files(data: Dataset) -> Sequence[str]:
    """The names of all images' files. Raises ValueError where an image has none."""
    names = list(data.file_names)
    if "" in names:
        id = data.image_ids[names.index("")]
        raise ValueError(f"{data.annotations}: image {id} has no `file_name`; give every image one")
    return names


def _sizes(annotations: Path, images: Path, names: Sequence[str]) -> list[tuple[int, int] | str]:
    _check_folder(annotations, images)
    return sizes_of(names, images)


def _check_folder(annotations: Path, images: Path) -> None:
    if not images.is_dir():
        raise FileNotFoundError(f"the image folder {images} of {annotations} does not exist; correct its path")


def _with_images(data: Dataset, images: Path, faults: Faults | None) -> Dataset:
    """The data with the names of the files that are meant. Raises FileNotFoundError where one is missing.

    faults   gathers images that are missing, which are left out; None: they are refused
    """
    _check_folder(data.annotations, images)
    data = _without_outsiders(data, images, faults)
    names = data.file_names if isinstance(data.file_names, Names) else Names.pack(data.file_names)
    absent = missing(names, images)
    if not absent:
        return data if faults is None else replace(data, remarks=faults.notes())
    met = Faults() if faults is None else faults
    found = find_names(names, absent, images, met)
    lost = [index for index in absent if index not in found]
    if lost:
        _report_missing(data, images, lost, faults)
    remarks = (*data.remarks, *met.notes()) if faults is None else faults.notes()
    data = replace(data, file_names=Names.pack(list({**dict(enumerate(names)), **found}.values())), remarks=remarks)
    return select(data, np.setdiff1d(np.arange(len(names)), lost)) if lost else data


def _without_outsiders(data: Dataset, images: Path, faults: Faults | None) -> Dataset:
    """The data without images that lie outside of them. Raises ValueError where there are some.

    faults   gathers them, and they are left out; None: they are refused
    """
    names, folder = data.file_names, data.annotations.parent
    assert isinstance(names, Names)
    if not names.may_climb:
        return data
    around = (folder, folder.parent) if folder.name in EITHER else (folder,)
    out = [
        index
        for index, name in enumerate(names)
        if leads_out(name, images, *around) and os.path.isfile(os.path.join(images, name))
    ]
    if not out:
        return data
    told = [f"{shown(names[index])} of image {shown(data.image_ids[index])}" for index in out]
    sentence = (
        f"{data.annotations} names {told[0]}, which lies outside the data set ({len(out)} of {len(names)} images do); "
        f"copy it there, or let such images be read by {typed('data.outside=true')}"
    )
    if faults is None:
        raise ValueError(sentence)
    faults.add(OUTSIDE, told, sentence)
    if len(out) == len(names):
        faults.refuse(data.annotations)
    return select(data, np.setdiff1d(np.arange(len(names)), out))


def _report_missing(data: Dataset, images: Path, lost: Sequence[int], faults: Faults | None) -> None:
    names, ids = data.file_names, data.stated_ids or data.image_ids.tolist()
    name, share = names[lost[0]], f"{len(lost)} of {len(names)} images missing"
    sentence = (
        f"{images} lacks {shown(name)} of image {shown(ids[lost[0]])} ({share}){hint(name, images)}; "
        f"{data.annotations} names it: complete the folder, correct the names or remove the entries"
    )
    if faults is None:
        names_of_files(data)
        raise FileNotFoundError(sentence)
    told = [f"{shown(names[index]) or 'no name'} of image {shown(ids[index])}" for index in lost]
    faults.add(MISSING_IMAGE, told, sentence)
    if len(lost) == len(names):
        faults.refuse(data.annotations)
