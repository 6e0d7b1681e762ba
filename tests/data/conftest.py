"""Small data sets written for a test."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.annotations import annotation_cache

CATEGORIES = [{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}]
SQUARE = [[10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]]


def annotation(id: int = 1, image_id: int = 1, **fields: object) -> dict:
    """A 20 x 20 cup."""
    return {
        "id": id,
        "image_id": image_id,
        "category_id": 7,
        "bbox": [10.0, 5.0, 20.0, 20.0],
        "area": 400.0,
        "iscrowd": 0,
        "segmentation": SQUARE,
        **fields,
    }


@pytest.fixture
def write_split(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes annotations and PNGs of noise; gives the paths of both. Sizes are (height, width)."""

    def write(annotations, sizes=((40, 60),), categories=CATEGORIES, **content) -> tuple[Path, Path]:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        images = []
        for id, (height, width) in enumerate(sizes, 1):
            noise = np.random.default_rng(id).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{id}.png")
            images.append({"id": id, "file_name": f"{id}.png", "height": height, "width": width})
        file = tmp_path / "instances.json"
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, **content}))
        return file, folder

    return write


@pytest.fixture
def annotate() -> Callable[..., dict]:
    return annotation


@pytest.fixture
def cache(new_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for the entries of annotation files, also of small ones."""
    monkeypatch.setattr(annotation_cache, "SMALL", 0)
    return new_cache / "annotations"
