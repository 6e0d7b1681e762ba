"""Several data sets as one."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from maskrcnn.data.classes import unite_classes
from maskrcnn.data.dataset import Dataset
from maskrcnn.masks import Rings
from maskrcnn.sentences import counted, some_of


def join(parts: Sequence[Dataset]) -> Dataset:
    """Join data sets by the names of their classes.

    File names are told from the folder that all images share. Ids are kept where no two parts have the same one, else
    counted from 1. Keypoints are kept where all parts have the same ones. Raises ValueError as `unite_classes`.
    """
    if len(parts) == 1:
        return parts[0]
    parts = unite_classes(parts)
    root = _common(parts)
    first_object = _chained([one.first_object for one in parts])
    rings = Rings(
        np.concatenate([one.rings.points for one in parts]),
        _chained([one.rings.first for one in parts]).astype(np.int32),
    )
    has_keypoints = all(one.keypoints is not None and one.keypoint_names == parts[0].keypoint_names for one in parts)
    image_ids, annotation_ids = (
        _ids([getattr(one, name) for one in parts]) for name in ("image_ids", "annotation_ids")
    )
    return replace(
        parts[0],
        annotations=_common_path([one.annotations for one in parts]),
        joined=tuple(path for one in parts for path in one.joined or (one.annotations,)),
        images=root,
        image_ids=image_ids,
        file_names=[name for one in parts for name in _names_below(one, one.file_names, root)],
        known_files=[name for one in parts for name in _names_below(one, one.known_files, root)],
        category_origins=(),
        first_object=first_object,
        annotation_ids=annotation_ids,
        rings=rings,
        first_ring=_chained([one.first_ring for one in parts]),
        stated_boxes=np.concatenate([one.boxes_xywh() for one in parts]),
        keypoints=np.concatenate([one.keypoints for one in parts]) if has_keypoints else None,
        keypoint_names=parts[0].keypoint_names if has_keypoints else (),
        attributes=_texts(parts),
        stated_ids=_stated_ids(parts),
        remarks=(*(remark for one in parts for remark in one.remarks), *_repeated(parts)),
        **{name: _concatenated(parts, name) for name in ("sizes", "labels", "boxes", "areas", "crowd", "flags")},
    )


def _repeated(parts: Sequence[Dataset]) -> Iterator[str]:
    """A sentence where images with their objects occur in several parts, as in two copies of one export."""
    seen: dict[tuple[Any, ...], str] = {}
    again: list[str] = []
    for part in parts:
        own = {key: f"{part.images}/{name}" for key, name in _keys(part)}
        again += [f"{name} and {seen[key]}" for key, name in own.items() if key in seen]
        seen = own | seen
    if again:
        told = "images have the name, the size and the objects of one in another data set that is joined"
        yield f"{counted(len(again), told)}: {some_of(again, 1)}; is one a copy of the other?"


def _keys(data: Dataset) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Name, size and objects of each image that has some, and its whole name."""
    for image, name in enumerate(data.file_names):
        chosen = data.objects(image)
        if chosen.stop > chosen.start:
            objects = data.boxes[chosen].tobytes(), data.labels[chosen].tobytes()
            yield (PurePath(name).name, *data.sizes[image].tolist(), *objects), name


def _concatenated(parts: Sequence[Dataset], name: str) -> Any:
    return np.concatenate([getattr(one, name) for one in parts])


def _chained(firsts: Sequence[np.ndarray]) -> Any:
    """Where groups begin when the parts' members follow one another."""
    lengths = np.concatenate([np.diff(first) for first in firsts])
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _ids(parts: Sequence[np.ndarray]) -> Any:
    ids = np.concatenate(parts)
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1)


def _stated_ids(parts: Sequence[Dataset]) -> list[str] | None:
    """Ids as written, where one of the parts has ids that are no numbers and no two images share one."""
    if all(one.stated_ids is None for one in parts):
        return None
    ids = [str(id) for one in parts for id in (one.image_ids.tolist() if one.stated_ids is None else one.stated_ids)]
    return ids if len(set(ids)) == len(ids) else None


def _texts(parts: Sequence[Dataset]) -> list[str] | None:
    if all(one.attributes is None for one in parts):
        return None
    return [text for one in parts for text in (one.attributes or [""] * len(one.labels))]


def _common(parts: Sequence[Dataset]) -> Path:
    folders = [one.images for one in parts]
    if not all(isinstance(folder, Path) for folder in folders):
        raise ValueError("data sets in a store cannot be joined; copy them to a disk first")
    return _common_path([folder for folder in folders if isinstance(folder, Path)])


def _common_path(paths: Sequence[Path]) -> Path:
    if len(set(paths)) == 1:
        return paths[0]
    return Path(os.path.commonpath([path.absolute() for path in paths]))


def _names_below(data: Dataset, names: Sequence[str], root: Path) -> list[str]:
    """Names below the data set's own folder, told from one around it."""
    assert isinstance(data.images, Path)
    if data.images == root:
        return list(names)
    below = data.images.absolute().relative_to(root).as_posix()
    return [f"{below}/{name}" for name in names]
