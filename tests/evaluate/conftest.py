"""A data set of plain pictures: each has its own shade of gray, so that a model can know which one it sees."""

import json

import pytest
from PIL import Image

from maskrcnn.config import Data, Evaluate, Recipe

SHADES = {11: 40, 12: 80, 13: 120, 14: 160, 15: 200}
"""Image id -> gray value."""
SIZES = {11: (30, 50), 12: (48, 36), 13: (30, 50), 14: (40, 64), 15: (36, 48)}
"""Image id -> (height, width)."""
BOXES = {11: [(3, 5, 4, 15, 24), (7, 20, 2, 44, 12)], 12: [(3, 4, 10, 30, 44)], 13: [], 14: [(7, 8, 8, 40, 16)], 15: []}
"""Image id -> (category, x1, y1, x2, y2)."""


@pytest.fixture
def recipe(tmp_path):
    """Settings of a data set that is written to the test's folder."""
    folder = tmp_path / "gray"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    for number, (height, width) in SIZES.items():
        Image.new("RGB", (width, height), (SHADES[number],) * 3).save(folder / "val2017" / f"{number}.png")
    images = [
        {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        for number, (height, width) in SIZES.items()
    ]
    annotations = [
        {"image_id": number, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        | {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]], "area": (x2 - x1) * (y2 - y1)}
        for number, objects in BOXES.items()
        for category, x1, y1, x2, y2 in objects
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "<b>dog</b>"}],
    }
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return Recipe(
        name="gray",
        device="cpu",
        data=Data(dataset_dir=str(folder), short_sides=(60,), max_side=100, num_buckets=2, num_workers=1),
        evaluate=Evaluate(batch=2),
        classes=("cat", "<b>dog</b>"),
        category_ids=(3, 7),
    )
