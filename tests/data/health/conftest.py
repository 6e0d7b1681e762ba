"""A clean data set of two splits, to which a test adds one fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Data
from maskrcnn.data.faults import Faults
from maskrcnn.data.health.check import Health, examine
from maskrcnn.data.split import read_part

HEIGHT, WIDTH = 40, 60
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cup"}]
NUM_TRAIN, NUM_VAL = 11, 2


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


class Split:
    """An annotation file and its images, on disk; `save` writes the file again."""

    def __init__(self, root: Path, name: str, first: int, number: int) -> None:
        self.file, self.folder = root / "annotations" / f"instances_{name}.json", root / name
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir()
        ids = range(first, first + number)
        self.images = [{"id": id, "file_name": f"{id}.png", "height": HEIGHT, "width": WIDTH} for id in ids]
        self.categories: list[dict[str, Any]] = [dict(one) for one in CATEGORIES]
        self.annotations: list[dict[str, Any]] = []
        for id in ids:
            noise(id).save(self.folder / f"{id}.png")
            self.annotations += [_cat(10 * id, id), _cup(10 * id + 1, id)]

    def save(self) -> None:
        content = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        self.file.write_text(json.dumps(content))


def _cat(id: int, image: int) -> dict[str, Any]:
    """20 x 10 pixels at (5, 4)."""
    ring = [5, 4, 25, 4, 25, 14, 5, 14]
    return {
        "id": id,
        "image_id": image,
        "category_id": 3,
        "bbox": [5, 4, 20, 10],
        "area": 200,
        "iscrowd": 0,
        "segmentation": [ring],
    }


def _cup(id: int, image: int) -> dict[str, Any]:
    """A triangle of 12 x 20 pixels at (26, 15)."""
    ring = [26, 15, 38, 35, 26, 35]
    fields = {"category_id": 7, "bbox": [26, 15, 12, 20], "area": 120, "segmentation": [ring]}
    return {**_cat(id, image), **fields}


class DataSet:
    """Both splits of the clean data set."""

    noise = staticmethod(noise)
    size = HEIGHT, WIDTH

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = Split(root, "train2017", 1, NUM_TRAIN)
        self.val = Split(root, "val2017", 101, NUM_VAL)

    def save(self) -> None:
        for split in (self.train, self.val):
            split.save()

    def check(self, **options: Any) -> Health:
        self.save()
        return check_folder(self.root, **options)


def check_folder(root: Path, **options: Any) -> Health:
    settings = Data(dataset_dir=str(root))
    faults = {"train": Faults(), "val": Faults()}
    read = {split: read_part(settings, split, faults[split]) for split in ("train", "val")}
    datasets = {split: data for split, data in read.items() if data is not None}
    return examine(datasets, faults, {split: "" for split in read if split not in datasets}, **options)


@pytest.fixture
def clean(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path / "data")


@pytest.fixture
def check() -> Callable[..., Health]:
    """Examine a folder."""
    return check_folder
