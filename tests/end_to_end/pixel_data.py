"""Easy data sets of discs, as images of any bands and number type."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maskrcnn.masks import counts_from_bitmap, string_from_counts

SIDE = 64
Write = Callable[[Path, np.ndarray], None]


def write_discs(folder: Path, ending: str, write: Write, *, train: int = 48, val: int = 12) -> Path:
    """A data set in the COCO2017 layout, of two or three discs in each image.

    write   puts a scene, float32 of 0..1 with discs brighter than what is around them, into an image's file
    """
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        (folder / f"{split}2017").mkdir(parents=True)
        (folder / "annotations").mkdir(exist_ok=True)
        images, annotations = [], []
        for index in range(count):
            name = f"{index}.{ending}"
            scene, masks = draw(np.random.default_rng([number, index]))
            write(folder / f"{split}2017" / name, scene)
            images.append({"id": index + 1, "file_name": name, "height": SIDE, "width": SIDE})
            annotations += [_annotation(mask, index + 1) for mask in masks]
        content = {
            "images": images,
            "annotations": [one | {"id": number} for number, one in enumerate(annotations, 1)],
            "categories": [{"id": 1, "name": "disc"}],
        }
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return folder


def draw(random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """A scene and the masks of its discs, which do not touch."""
    scene = 0.2 + 0.03 * random.standard_normal((SIDE, SIDE)).astype(np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks: list[np.ndarray] = []
    for _ in range(20):
        radius, (y, x) = random.uniform(7, 11), random.uniform(10, SIDE - 10, 2)
        mask = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < radius**2
        near = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < (radius + 3) ** 2
        if len(masks) < 3 and not any((near & other).any() for other in masks):
            masks.append(mask)
            scene[mask] += 0.5
    return scene.clip(0, 1), masks


def _annotation(mask: np.ndarray, image: int) -> dict:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] + 1 - columns[0]), int(rows[-1] + 1 - rows[0])]
    counts = string_from_counts(counts_from_bitmap(mask))
    mask_rle = {"size": [SIDE, SIDE], "counts": counts}
    shared = {"image_id": image, "category_id": 1, "iscrowd": 0, "area": int(mask.sum())}
    return shared | {"bbox": [float(value) for value in box], "segmentation": mask_rle}
