"""Tar shards: images and their annotations in the layout of WebDataset, read where they lie."""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from maskrcnn.data.annotations.annotation_cache import read_columns
from maskrcnn.data.annotations.packed import as_dataset
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import probe, read_image
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats import shards_layout
from maskrcnn.data.formats.coco import annotations_of, labels_with_keypoints
from maskrcnn.data.formats.coco_extras import NOTHING
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.place import distinct_names
from maskrcnn.data.formats.shards_layout import CATEGORIES, LARGEST, ending_of, is_picture, key_of, samples, tars_of
from maskrcnn.data.formats.source import Folder, Source
from maskrcnn.data.sources import is_image
from maskrcnn.data.tar_members import TAR, Member, index_of, read_member
from maskrcnn.files import atomic_write

TITLE = "tar shards"
SHARD_SIZE = 1000
"""Images of a tar that is written, unless another number is asked for."""
UNREADABLE = Kind("shard-json", "JSON members", Severity.REFUSED, "cannot be read", "their images are left out")
NO_JSON = Kind("shard-no-json", "images", Severity.WARNING, "have no JSON member and are left out")
NO_PICTURE = Kind("shard-no-image", "JSON members", Severity.REFUSED, "have no image beside them", "they are left out")
SEVERAL = Kind("shard-several-images", "stems", Severity.REFUSED, "have several images", "they are left out")
NO_CATEGORY = Kind("shard-no-category", "objects", Severity.REFUSED, "name no category", "they are left out")
IDS = Kind("shard-ids", "image ids", Severity.NOTE, "are missing or occur twice; images are counted from 1")


class _Named(Struct):
    category: Any = None
    id: Any = None


class _Annotated(Struct):
    """An image's JSON as far as it is looked at before anything is built from it."""

    annotations: list[_Named]
    id: Any = None


class _Sample(NamedTuple):
    """An image and the text of its annotations."""

    name: str
    """Below the folder of the tars."""
    text: bytes
    id: Any
    objects: list[_Named]


def find(folder: Folder) -> list[Source]:
    """Tars whose first members are images and JSON with annotations."""
    return shards_layout.find(folder)


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split; images stay in their tars and are named through them: `train-0003.tar/000012.jpg`.

    Raises FileNotFoundError for a tar that is missing, and ValueError for one that is damaged, or where nothing can be
    read.
    """
    tars = tars_of(source.labels, source.part)
    return kept(source, faults, tars, lambda: _read(source, tars, faults), few=0)


def write(splits: Mapping[str, Dataset], dest: Path, *, size: int = SHARD_SIZE) -> list[str]:
    """Write `<split>-0000.tar`, `<split>-0001.tar`, ... and `dataset.json` with the categories.

    size   images of a tar
    Images are copied byte for byte. A name with dots before its ending, or without the ending of an image, is changed:
    what stands before the first dot tells which members belong together.
    """
    losses = Losses(TITLE)
    dest.mkdir(parents=True, exist_ok=True)
    for part, data in splits.items():
        losses.say_extras(data)
        _write_split(data, dest, part or "data", size, losses)
    _write_categories(splits, dest / CATEGORIES)
    return losses.sentences()


def _read(source: Source, tars: Sequence[Path], faults: Faults) -> Dataset:
    found = [sample for tar in tars for sample in _samples_of(tar, source.images, faults)]
    if not found:
        faults.refuse(source.labels)
        raise ValueError(f"{source.labels}: no image has annotations; nothing can be read")
    categories = _categories(source, found)
    text = _as_coco(found, categories, faults)

    def sizes(names: Sequence[str]) -> list[tuple[int, int] | str]:
        return [_size(source.images / name) for name in names]

    data = as_dataset(read_columns(text, source.labels, sizes, faults), source.labels, source.images)
    return replace(_with_ids(data, found, faults), remarks=faults.notes())


def _samples_of(tar: Path, root: Path, faults: Faults) -> Iterator[_Sample]:
    below = tar.relative_to(root).as_posix()
    for key, members in samples(index_of(tar).in_order()).items():
        images = [one for one in members if is_picture(one.name)]
        labels = next((one for one in members if ending_of(one.name) == ".json"), None)
        who = f"{below}/{key}"
        if len(images) > 1:
            faults.add(SEVERAL, who)
        elif images and labels is None:
            faults.add(NO_JSON, f"{below}/{images[0].name}")
        elif labels is not None and not images:
            faults.add(NO_PICTURE, f"{below}/{labels.name}")
        elif labels is not None and (sample := _sample(tar, f"{below}/{images[0].name}", labels, faults)):
            yield sample


def _sample(tar: Path, name: str, labels: Member, faults: Faults) -> _Sample | None:
    who = f"{tar.name}/{labels.name}"
    try:
        if labels.size > LARGEST:
            raise ValueError(f"it has {labels.size} bytes, at most {LARGEST} are read")
        text = read_member(tar, labels)
        content = msgspec.json.decode(text, type=_Annotated)
    except (ValueError, RecursionError) as error:
        faults.add(UNREADABLE, who, f"{who} cannot be read ({error}); correct or remove it")
        return None
    return _Sample(name, text, content.id, content.annotations)


def _categories(source: Source, found: Sequence[_Sample]) -> list[dict[str, Any]]:
    """Categories as COCO lists them: those of `dataset.json`, then what else objects name, sorted."""
    listed: list[dict[str, Any]] = _listed(source.names) if source.names else []
    known = {one["name"] for one in listed}
    named = {one.category for sample in found for one in sample.objects if isinstance(one.category, str)}
    first = 1 + max((one["id"] for one in listed), default=0)
    return [*listed, *({"id": id, "name": name} for id, name in enumerate(sorted(named - known), first))]


def _listed(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = msgspec.json.decode(path.read_bytes())["categories"]
        if all(isinstance(one["name"], str) and type(one["id"]) is int for one in found):
            return found
        reason = "a category has no name, or an id that is no whole number"
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        reason = str(error)
    raise ValueError(
        f'{path}: expected {{"categories": [{{"id": 1, "name": "cat"}}, ...]}}, which it is not ({reason}); correct or '
        "remove it"
    )


def _as_coco(found: Sequence[_Sample], categories: list[dict[str, Any]], faults: Faults) -> bytes:
    """The text of a COCO file with the same images, numbered from 1, and objects."""
    numbers = {one["name"]: one["id"] for one in categories}
    keeps_ids = _are_ids([one.id for sample in found for one in sample.objects])
    images, annotations = [], []
    count = 0
    for number, sample in enumerate(found, 1):
        content = msgspec.json.decode(sample.text)
        sides = {side: content[side] for side in ("height", "width") if side in content}
        images.append({"id": number, "file_name": sample.name, **sides})
        for one in content["annotations"]:
            count += 1
            name = one.pop("category", None)
            if not isinstance(name, str):
                faults.add(NO_CATEGORY, f"an object of {sample.name}")
                continue
            row = {**one, "id": one["id"] if keeps_ids else count, "image_id": number, "category_id": numbers[name]}
            annotations.append(msgspec.json.encode(row))
    head = msgspec.json.encode({"images": images, "categories": categories})
    return head[:-1] + b',"annotations":[' + b",\n".join(annotations) + b"]}"


def _with_ids(data: Dataset, found: Sequence[_Sample], faults: Faults) -> Dataset:
    """The images with the ids that their JSON states; counted from 1 where one has none, or two the same."""
    ids = [found[number - 1].id for number in data.image_ids.tolist()]
    if all(one is None for one in ids):
        return data
    if _are_ids(ids):
        return replace(data, image_ids=np.array(ids, np.int64))
    faults.add(IDS, [found[0].name], count=len(ids))
    return data


def _are_ids(ids: Sequence[Any]) -> bool:
    """Whether all are whole numbers of 64 bits, and no two the same."""
    return all(type(one) is int and abs(one) < 1 << 63 for one in ids) and len(set(ids)) == len(ids)


def _size(path: Path) -> tuple[int, int] | str:
    try:
        return probe(path).size
    except (OSError, ValueError) as error:
        return str(error)


def _write_split(data: Dataset, dest: Path, part: str, size: int, losses: Losses) -> None:
    names = losses.renamed(data, distinct_names(_names(data), by_stem=True, moved=_without_dots))
    posed = labels_with_keypoints(data, NOTHING)
    categories = dict(zip(data.category_ids, data.category_names, strict=True))
    for number, start in enumerate(range(0, len(names), size)):
        with atomic_write(dest / f"{part}-{number:04d}{TAR}") as draft, tarfile.open(draft, "w") as tar:
            for image in range(start, min(start + size, len(names))):
                content = read_image(data.images / data.file_names[image])
                _add(tar, names[image], content)
                _add(tar, f"{key_of(names[image])}.json", _json(data, image, categories, posed))


def _names(data: Dataset) -> list[str]:
    """Names of images, with the ending of their format where they have none."""
    return [
        name if is_image(name) else f"{name}.{probe(data.images / name).format.lower()}" for name in data.file_names
    ]


def _without_dots(name: str) -> str:
    """A name that has no dot but that of its ending.

    >>> _without_dots("a.b/photo.v2.jpg")
    'a.b/photo_v2.jpg'
    """
    path = PurePosixPath(name)
    return path.with_name(path.stem.replace(".", "_") + path.suffix).as_posix()


def _json(data: Dataset, image: int, categories: Mapping[int, str], posed: set[int]) -> bytes:
    height, width = data.sizes[image].tolist()
    rows = []
    for row in annotations_of(data, image, 0, posed):
        del row["image_id"]
        rows.append({"category": categories[row.pop("category_id")], **row})
    id = int(data.image_ids[image])
    return msgspec.json.encode({"id": id, "width": width, "height": height, "annotations": rows})


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without time, owner and rights: the same data give the same bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _write_categories(splits: Mapping[str, Dataset], path: Path) -> None:
    """List the categories of all splits, which are the same."""
    data = next(iter(splits.values()))
    posed = {label for one in splits.values() for label in labels_with_keypoints(one, NOTHING)}
    entries = [
        {"id": id, "name": name} | ({"keypoints": data.keypoint_names} if label in posed else {})
        for label, (id, name) in enumerate(zip(data.category_ids, data.category_names, strict=True), 1)
    ]
    with atomic_write(path) as draft:
        draft.write_bytes(msgspec.json.encode({"categories": entries}))
