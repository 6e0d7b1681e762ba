"""LVIS: COCO's files, which also say of which categories each image is annotated in full.

Source: Gupta et al. 2019, LVIS, section 3.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from maskrcnn.data.annotations.non_finite import quote_non_finite
from maskrcnn.data.dataset import Dataset, Flag, select
from maskrcnn.data.encodings import decoded
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco
from maskrcnn.data.formats.coco_extras import Extras, extras_of
from maskrcnn.data.formats.coco_folders import Content, coco_files, source_of
from maskrcnn.data.formats.image_folder import plain
from maskrcnn.data.formats.json_sample import sample
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.pictures import Pictures
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.source import Folder, Source
from maskrcnn.files import atomic_write
from maskrcnn.masks import bitmap_from_rings, window_of

TITLE = "LVIS"
RARE, COMMON = 10, 100
"""Images of the training set up to which a category is rare, or common; others are frequent."""
NAME_PARTS = 2
"""Last parts of an image's address that name its file: the folder of COCO's split, and the file."""


class _Image(Struct, gc=False):
    id: int
    coco_url: str = ""
    file_name: str = ""
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class _Extras(Struct):
    """What a file says besides COCO's fields."""

    images: list[_Image]
    categories: list[dict[str, Any]]


def find(folder: Folder) -> list[Source]:
    """Splits of LVIS files, in any folder below; images lie in the folders of COCO's splits."""
    return [source_of(folder, file, "lvis") for file in coco_files(folder) if file.content is Content.LVIS]


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. What it says of categories per image stays in the file, where evaluation looks for it.

    Raises FileNotFoundError or ValueError as COCO's reader, or where no image is there.
    """
    data = coco.read(source.labels, None, faults)
    names = _files(data, source, Pictures(Folder(source.images), faults))
    kept = np.flatnonzero([name is not None for name in names])
    if not len(kept):
        raise ValueError(f"{source.labels}: none of its {len(names)} images are below {source.images}; put them there")
    data = replace(data, images=source.images, file_names=[name or "" for name in names], remarks=faults.notes())
    return data if len(kept) == len(names) else select(data, kept)


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write `lvis_v1_<split>.json` with images in `<split>2017/`, or `lvis_v1.json` and `images/`.

    What a data set from LVIS says of categories per image is kept. Another one is annotated in full: each category that
    an image has no object of is negative there. A crowd region, which LVIS does not have, leaves its category not
    exhaustively annotated, so that results there which match no object do not count.
    """
    losses = Losses(TITLE)
    dest.mkdir(parents=True, exist_ok=True)
    counts = _image_counts(splits["train"] if "train" in splits else next(iter(splits.values())))
    for part, data in splits.items():
        folder, name = (f"{part}2017", f"lvis_v1_{part}.json") if part else ("images", "lvis_v1.json")
        placed = [f"{folder}/{one}" for one in losses.renamed(data, place(data, dest / folder))]
        _write_file(data, placed, counts, dest / name, losses)
        losses.count(data, attributes=True, areas=True, extras=True)
        losses.add(
            "crowd regions are left out; their category is not exhaustively annotated in their image",
            int(data.crowd.sum()),
        )
    return losses.sentences()


def _files(data: Dataset, source: Source, pictures: Pictures) -> list[str | None]:
    """The file of each image, in their order. Two images do not share one: then it is only whose name says so."""
    urls = {image.id: image.file_name or _name_of(image.coco_url) for image in _extras(source.labels).images}
    stated = [urls.get(id) or name for id, name in zip(data.image_ids.tolist(), data.file_names, strict=True)]
    found = [pictures.find(name) for name in stated]
    claims = Counter(found)
    names = [name if name == own or claims[name] == 1 else None for name, own in zip(found, stated, strict=True)]
    for id, name, own in zip(data.image_ids.tolist(), names, stated, strict=True):
        if name is None:
            pictures.report_missing(own, f"image {id} of {source.labels.name}")
    return names


def _name_of(url: str) -> str:
    return "/".join(plain(url).split("/")[-NAME_PARTS:])


def _extras(path: Path) -> _Extras:
    """Raises ValueError where a file is not LVIS's."""
    text = path.read_bytes()
    try:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(text, type=_Extras)
        return msgspec.json.decode(quote_non_finite(decoded(text)[0].encode("utf-8", "replace")), type=_Extras)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}; expected an LVIS file") from None


def _image_counts(data: Dataset) -> list[int]:
    """Number of images that each category occurs in."""
    both = np.unique(np.stack([data.owners, data.labels]), axis=1)
    return np.bincount(both[1].astype(np.int64), minlength=len(data.category_ids) + 1)[1:].tolist()


def _write_file(data: Dataset, names: Sequence[str], counts: Sequence[int], path: Path, losses: Losses) -> None:
    extras, others = _own_extras(data), extras_of(data)
    losses.say_contradicted(data, others)
    encode = msgspec.json.encode
    categories = list(_categories(data, counts, extras, others))
    images = [others.of_image(row["id"]) | row for row in _images(data, names, extras)]
    with atomic_write(path) as draft, draft.open("wb") as file:
        head = encode({**others.file, "images": images, "categories": categories})
        file.write(head[:-1] + b',"annotations":[')
        rows = (row for image in range(len(names)) for row in _annotations(data, image))
        for number, row in enumerate(rows):
            file.write(b",\n" * (number > 0) + encode(row))
        file.write(b"]}")


def _own_extras(data: Dataset) -> _Extras | None:
    """What the file that a data set was read from says, where that is an LVIS file with all of its images."""
    seen = sample(data.annotations) if data.annotations.suffix == ".json" and data.stated_ids is None else None
    if seen is None or not seen.says("neg_category_ids", "not_exhaustive_category_ids"):
        return None
    with suppress(OSError, ValueError):
        extras = _extras(data.annotations)
        if {image.id for image in extras.images}.issuperset(data.image_ids.tolist()):
            return extras
    return None


def _categories(
    data: Dataset, counts: Sequence[int], extras: _Extras | None, others: Extras
) -> Iterator[dict[str, Any]]:
    known = {row.get("id"): row for row in extras.categories} if extras else {}
    objects = np.bincount(data.labels[~data.crowd], minlength=len(counts) + 1)[1:].tolist()
    for index, (id, name) in enumerate(zip(data.category_ids, data.category_names, strict=True)):
        frequency = "r" if counts[index] <= RARE else "c" if counts[index] <= COMMON else "f"
        own = {"frequency": frequency, "image_count": counts[index], "instance_count": objects[index]}
        origin = data.origins[index]
        stated = known.get(origin[0][0], {}) if len(origin) == 1 else {}
        yield others.of_class(origin) | own | stated | {"id": id, "name": name}


def _images(data: Dataset, names: Sequence[str], extras: _Extras | None) -> Iterator[dict[str, Any]]:
    ids, renamed = np.array(data.category_ids), _become(data)
    num_origins = Counter(renamed.values())  # a class that stands for several is absent where all of them are
    known = {image.id: image for image in extras.images} if extras else {}
    for image, (id, name) in enumerate(zip(data.image_ids.tolist(), names, strict=True)):
        chosen = data.objects(image)
        labels, crowd = data.labels[chosen], data.crowd[chosen]
        partly = set(ids[np.unique(labels[crowd]) - 1].tolist())
        negative = np.delete(ids, np.unique(labels) - 1).tolist()
        if id in known:
            absent = Counter(renamed[one] for one in known[id].neg_category_ids if one in renamed)
            negative = [one for one, count in absent.items() if count == num_origins[one]]
            partly |= {renamed[one] for one in known[id].not_exhaustive_category_ids if one in renamed}
        height, width = data.sizes[image].tolist()
        row = {"id": id, "file_name": name, "height": height, "width": width, "neg_category_ids": negative}
        yield row | {"not_exhaustive_category_ids": sorted(partly)}


def _become(data: Dataset) -> dict[int, int]:
    """Category ids of the file that a data set came from -> those of the classes that stand for them now."""
    pairs = zip(data.category_ids, data.origins, strict=True)
    return {own: id for id, origin in pairs for own, _ in origin}


def _annotations(data: Dataset, image: int) -> Iterator[dict[str, Any]]:
    chosen = data.objects(image)
    boxes: list[list[float]] = data.boxes_xywh(chosen).tolist()
    height, width = data.sizes[image].tolist()
    outlines = coco.segmentations(data, image)
    for index, box, outline in zip(range(chosen.start, chosen.stop), boxes, outlines, strict=True):
        if data.crowd[index]:
            continue
        area = float(data.areas[index])
        if not np.isfinite(area):
            rings = data.outline(index)
            area = float(bitmap_from_rings(rings, window_of(rings, height, width)).sum())
        row = {
            "id": int(data.annotation_ids[index]),
            "image_id": int(data.image_ids[image]),
            "category_id": data.category_ids[data.labels[index] - 1],
            "bbox": box,
            "area": area,
            "segmentation": [] if data.flags[index] & Flag.NO_OUTLINE else outline,
        }
        if data.attributes is not None and data.attributes[index]:
            row |= msgspec.json.decode(data.attributes[index])
        yield row
