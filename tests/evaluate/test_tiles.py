"""Evaluation on tiles: results of whole images, scored against annotations that no tile has cut."""

import json

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch import nn

from maskrcnn.config import Data, Evaluate, Recipe
from maskrcnn.data.formats import coco
from maskrcnn.evaluate import run
from maskrcnn.runtime.distributed import World
from maskrcnn.structures import Detections

SIZES = [(150, 260), (40, 30), (100, 100)]
BOXES = [
    [(10, 10, 40, 30), (70, 20, 95, 60), (50, 70, 240, 140), (200, 5, 215, 25)],
    [(5, 6, 20, 30)],
    [],
]
DATA = Data(tile=100, tile_overlap=0.3, short_sides=(100,), max_side=100, num_workers=0, dataset_dir="", flip=0.0)
RECIPE = Recipe(data=DATA, evaluate=Evaluate(batch=3), classes=("thing",), category_ids=(1,))


class Seeing(nn.Module):
    """Finds every rectangle, of which each image has one of each shade, from what it sees of it."""

    def __init__(self, seen):
        super().__init__()
        self.see = seen.append  # which copies of the model share

    def forward(self, batch):
        number, places = len(batch.sizes), 6
        self.see(number)
        boxes, valid = torch.zeros(number, places, 4), torch.zeros(number, places, dtype=torch.bool)
        shades = (batch.pixels[:, 0] * DATA.std[0] + DATA.mean[0]).round()
        for slot, place in np.ndindex(number, places):
            rows, columns = torch.nonzero(shades[slot] == 200 + place, as_tuple=True)
            if len(rows):
                box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
                boxes[slot, place], valid[slot, place] = torch.tensor(box).float(), True
        return Detections(
            boxes=boxes,
            labels=torch.ones(number, places, dtype=torch.int64),
            scores=torch.full((number, places), 0.9),
            valid=valid,
            masks=torch.ones(number, places, 28, 28),
        )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    images, annotations = [], []
    for id, ((height, width), boxes) in enumerate(zip(SIZES, BOXES, strict=True), 1):
        pixels = np.zeros((height, width, 3), np.uint8)
        for shade, (x1, y1, x2, y2) in enumerate(boxes):
            pixels[y1:y2, x1:x2] = 200 + shade
            outline = [x1, y1, x2, y1, x2, y2, x1, y2]
            box = [x1, y1, x2 - x1, y2 - y1]
            one = {"id": len(annotations) + 1, "image_id": id, "category_id": 1, "iscrowd": 0, "bbox": box}
            annotations.append(one | {"area": box[2] * box[3], "segmentation": [outline]})
        Image.fromarray(pixels).save(folder / f"{id}.png")
        images.append({"id": id, "file_name": f"{id}.png", "height": height, "width": width})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "objects.json").write_text(json.dumps(content))
    return coco.read(folder / "objects.json", folder)


def test_results_on_tiles_are_those_of_whole_images(dataset, tmp_path):
    seen, done = [], []
    model = Seeing(seen)
    world = World(device=torch.device("cpu"))
    metrics = run.evaluate(model, dataset, RECIPE, world, tmp_path, lambda *numbers: done.append(numbers))
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == pytest.approx(1.0)
    found = json.loads((tmp_path / "predictions.json").read_text())
    boxes = {tuple(one["bbox"][:2]) for one in found if one["image_id"] == 1}
    assert len(found) == 5
    assert boxes == {box[:2] for box in BOXES[0]}
    assert all(one["segmentation"]["size"] == list(SIZES[one["image_id"] - 1]) for one in found)
    assert sum(seen) == 2 * 4 + 1 + 1
    assert done[-1] == (3, 3)


def test_several_processes_share_images_and_not_tiles(dataset):
    shares = [World(device=torch.device("cpu"), rank=rank, size=2) for rank in range(2)]
    plans = [run._plan(dataset, DATA, 2, world) for world in shares]
    assert [sorted(set(shown.image_ids.tolist())) for shown, _ in plans] == [[1, 3], [2]]
    for shown, plan in plans:
        seen = np.concatenate([step.indices for step in plan])
        assert sorted(seen.tolist()) == list(range(len(shown.image_ids)))
    assert run._plan(dataset, DATA, 2, World(device=torch.device("cpu"), rank=3, size=4))[1] == []


def test_without_tiles_the_network_sees_whole_images(dataset):
    seen = []
    model = Seeing(seen)
    data = replace(DATA, tile=0, short_sides=(300,), max_side=300)
    run.evaluate(model, dataset, replace(RECIPE, data=data), World(device=torch.device("cpu")))
    assert sum(seen) == len(SIZES)
