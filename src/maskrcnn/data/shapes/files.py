"""The built-in data set as files in the COCO2017 layout."""

import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from maskrcnn.data.shapes.scene import CATEGORIES, Scene, draw_scene
from maskrcnn.files import writing
from maskrcnn.masks import (
    counts_from_bitmap,
    polygons_from_bitmap,
    rings_from_bitmap,
    signed_areas,
    string_from_counts,
)

VERSION = "1.0"  # of the rules that make the images: another version is another data set
SPLITS = ("train", "val")


def generate(folder: str | Path, *, num_train: int = 2000, num_val: int = 120, seed: int = 0, side: int = 128) -> Path:
    """Write the data set to `folder` (train2017/, val2017/, annotations/) and return that path.

    side    pixels, the longer side of every image
    A folder that already holds the same data set is left as it is. Nothing half-written is ever
    seen: the files are made beside `folder`, which gets its name at the end.
    Raises ValueError for settings that cannot be drawn, FileExistsError when `folder` holds anything else,
    DiskFull where there is no room for it.
    """
    if side < 64 or num_train < 0 or num_val < 0 or seed < 0:
        raise ValueError(
            f"expected side >= 64 and num_train, num_val, seed >= 0; "
            f"received side={side}, num_train={num_train}, num_val={num_val}, seed={seed}"
        )
    folder = Path(folder)
    settings = {"version": VERSION, "seed": seed, "side": side, "num_train": num_train, "num_val": num_val}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _check_same(folder, settings)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with writing(folder, draft=draft):
            draft.chmod(0o755)
            (draft / "annotations").mkdir()
            for split, count in zip(SPLITS, (num_train, num_val), strict=True):
                _write_split(draft, split, count, settings)
            if folder.exists():
                folder.rmdir()  # it is empty; Windows puts no folder in the place of another
            draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder


def _write_split(folder: Path, split: str, count: int, settings: dict[str, Any]) -> None:
    images = folder / f"{split}2017"
    images.mkdir()
    offset = 0 if split == "train" else settings["num_train"]

    def write(index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        scene = draw_scene(settings["seed"], SPLITS.index(split), index, settings["side"])
        image_id = offset + index + 1
        name = f"{image_id:012d}.png"
        Image.fromarray(scene.pixels).save(images / name, compress_level=1)
        height, width = scene.owners.shape
        image = {"id": image_id, "file_name": name, "height": height, "width": width, "license": 1}
        return image, _annotations(scene, image_id)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        written = list(pool.map(write, range(count)))
    annotations = [annotation for _, found in written for annotation in found]
    document = {
        "info": {"description": f"maskrcnn shapes, {split}", "settings": settings, "version": VERSION, "year": 2026},
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "categories": [{"id": i, "name": name, "supercategory": "shape"} for i, name in CATEGORIES.items()],
        "images": [image for image, _ in written],
        "annotations": [{"id": number + 1, **annotation} for number, annotation in enumerate(annotations)],
    }
    path = folder / "annotations" / f"instances_{split}2017.json"
    path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")


def _annotations(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """COCO records, without their ids, of every group that can be seen."""
    records = []
    for group, (category_id, crowd) in enumerate(zip(scene.category_ids, scene.crowd, strict=True)):
        mask = scene.owners == group
        if mask.any():
            records.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "iscrowd": int(crowd),
                    "area": int(np.count_nonzero(mask)),
                    "bbox": _xywh(mask),
                    "segmentation": _segmentation(mask, crowd),
                }
            )
    return records


def _xywh(mask: Bool[np.ndarray, "h w"]) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def _segmentation(mask: Bool[np.ndarray, "h w"], crowd: bool) -> Any:
    """All of COCO's forms: plain run lengths for crowds, compressed ones where there are holes, else polygons."""
    size = list(mask.shape)
    if crowd:
        return {"size": size, "counts": counts_from_bitmap(mask).tolist()}
    if (signed_areas(rings_from_bitmap(mask)) < 0).any():
        return {"size": size, "counts": string_from_counts(counts_from_bitmap(mask))}
    return [ring.ravel().tolist() for ring in polygons_from_bitmap(mask)]


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    try:
        text = (folder / "annotations" / "instances_val2017.json").read_text(encoding="utf-8")
        found = json.loads(text)["info"]["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != settings:
        held = "files of another kind" if found is None else f"shapes made with {_listed(found)}"
        raise FileExistsError(
            f"{folder} holds {held}; asked for shapes with {_listed(settings)}; "
            "choose another folder or remove this one"
        )


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())
