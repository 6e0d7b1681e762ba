"""What `maskrcnn predict` finds in files is what `maskrcnn eval` scores, whatever the images and the settings."""

import json

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from maskrcnn.config import Data, Evaluate, MaskHead, PointHead, Recipe
from maskrcnn.data.formats import coco
from maskrcnn.evaluate import run
from maskrcnn.models.mask_rcnn import build
from maskrcnn.predict import Predictor
from maskrcnn.predict_files import predict_paths
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.precision import Precision
from tests.test_predict import RECIPE

CPU = torch.device("cpu")
SIZES = [(60, 96), (48, 64), (72, 60)]
PLAIN = replace(
    RECIPE,
    device="cpu",
    data=Data(
        short_sides=(48,),
        max_side=96,
        num_workers=0,
        mean=(110.0, 120.0),
        std=(60.0, 50.0),
        levels="fixed",
        level_range=((0.0, 900.0),),
    ),
    evaluate=Evaluate(batch=1),
)


def everything() -> Recipe:
    """All ways to look and to draw masks at once: points, logits, inclusive pasting, sizes, mirrors and tiles."""
    model = replace(
        PLAIN.model,
        mask_head=MaskHead(num_convs=1, channels=8, interpolate="logits", paste="inclusive"),
        point_head=PointHead(enabled=True, channels=8, num_test_points=30),
    )
    data = replace(PLAIN.data, tile=40, tile_overlap=0.3)
    return replace(PLAIN, model=model, data=data, evaluate=Evaluate(batch=1, scales=(0.5, 1.0), flip=True))


@pytest.fixture
def photos(tmp_path):
    """Deep images of two bands, and what lies in them."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    images, annotations = [], []
    for id, (height, width) in enumerate(SIZES, 1):
        pixels = random.integers(0, 300, (height, width, 2), dtype=np.uint16)
        pixels[10:40, 20:50] += 500
        np.save(folder / f"{id}.npy", pixels)
        images.append({"id": id, "file_name": f"{id}.npy", "height": height, "width": width})
        box = {"bbox": [20, 10, 30, 30], "segmentation": [[20, 10, 50, 10, 50, 40, 20, 40]], "area": 900, "iscrowd": 0}
        annotations.append({"id": id, "image_id": id, "category_id": 3} | box)
    names = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": names}
    (tmp_path / "objects.json").write_text(json.dumps(content))
    return folder


def results(folder, of_image):
    """Each result's class, score, box and mask, by its image."""
    found = json.loads((folder / "predictions.json").read_text())
    rows = [(of_image(one), one["category_id"], one["score"], one["bbox"], one["segmentation"]) for one in found]
    return sorted(rows, key=lambda row: (row[0], row[1], row[3]))


@pytest.mark.parametrize("recipe", [PLAIN, everything()], ids=["plain", "everything"])
def test_predictions_of_deep_files_are_what_their_evaluation_scores(photos, tmp_path, recipe):
    torch.manual_seed(0)
    model = build(recipe.model, 2, 2).eval()
    dataset = coco.read(tmp_path / "objects.json", photos)
    run.evaluate(model, dataset, recipe, World(device=CPU), tmp_path / "scored")
    predictor = Predictor(model, recipe, CPU, Precision("cpu", torch.float32))
    assert predict_paths(predictor, [str(photos)], tmp_path / "predicted", 0.0, lambda *_: None) == []
    scored = results(tmp_path / "scored", lambda one: one["image_id"])
    predicted = results(tmp_path / "predicted", lambda one: int(one["file_name"].rpartition("/")[2][0]))
    assert {row[0] for row in scored} == {1, 2, 3}
    assert len(scored) == len(predicted)
    for ours, theirs in zip(predicted, scored, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2] == pytest.approx(theirs[2], abs=1e-5)
        assert ours[3] == pytest.approx(theirs[3], abs=2e-3)
        assert ours[4] == theirs[4]
