"""Images of the report that are far larger than the page are reduced before objects are drawn on them."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats import coco
from maskrcnn.report import gallery


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_large_image_is_reduced_and_its_objects_with_it(tmp_path, monkeypatch, name):
    pixels = np.random.default_rng(0).integers(60, 90, (100, 240, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, **({"tiffinfo": {278: 8}} if name == "a.tif" else {}))
    box = [40.0, 20.0, 80.0, 40.0]
    ring = [40, 20, 120, 20, 120, 60, 40, 60]
    one = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box, "area": 3200, "segmentation": [ring]}
    image = {"id": 1, "file_name": name, "height": 100, "width": 240}
    content = {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = coco.read(tmp_path / "a.json", tmp_path)
    monkeypatch.setattr(gallery, "PART", 50)
    whole = np.asarray(gallery._draw_truth(data, 0).resize((240, 100)), np.int32)
    monkeypatch.setattr(gallery, "LARGE", 120)
    drawn = gallery._draw_truth(data, 0)
    factor = gallery.factor_for((100, 240), 120)
    assert factor == 2
    half = pixels.reshape(50, 2, 120, 2, 3).mean(axis=(1, 3))
    assert np.abs(gallery._pixels(data, 0, factor) - half).max() <= 0.5
    small = np.asarray(drawn.resize((240, 100)), np.int32)
    assert np.abs(whole[30:50, 60:100].mean(axis=(0, 1)) - small[30:50, 60:100].mean(axis=(0, 1))).max() < 8
    assert np.abs(whole[80:, 150:].mean() - small[80:, 150:].mean()) < 2
