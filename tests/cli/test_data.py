"""`maskrcnn data`: shapes, check, show."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.cli.annotations import find_data, is_recipe


@pytest.fixture(scope="module")
def folder(maskrcnn, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "shapes"
    assert maskrcnn("data", "shapes", path, "--num-train", "3", "--num-val", "2", "--side", "64") == 0
    return path


def test_both_splits_are_checked_and_summed_up(maskrcnn, folder, capsys):
    assert maskrcnn("data", "check", folder) == 0
    text = capsys.readouterr().out
    assert f"{folder}/annotations/instances_train2017.json: 3 images" in text
    assert f"{folder}/annotations/instances_val2017.json: 2 images" in text


def test_a_split_that_cannot_be_read_is_told_beside_the_other(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "check", "demo", f"data.dataset_dir={folder}", "--data.train_img_dir", "absent") == 1
    text = capsys.readouterr().out
    assert "instances_val2017.json: 2 images" in text
    assert "refused  split-unreadable  train 1" in text
    assert f"the image folder {folder}/absent does not exist" in text


def test_pictures_are_drawn_with_their_annotations(maskrcnn, folder, tmp_path):
    assert maskrcnn("data", "show", folder, "--split", "val", "--count", "5", "--out", tmp_path) == 0
    drawn = sorted(tmp_path.glob("*.png"))
    assert [path.stem for path in drawn] == sorted(path.stem for path in (folder / "val2017").iterdir())


def test_a_mask_is_drawn_where_it_was_annotated(tmp_path, monkeypatch):
    """A white picture of 40 x 60 pixels with one object on rows 10..19, columns 20..49."""
    from maskrcnn.cli import annotations
    from maskrcnn.data.formats import coco

    (tmp_path / "images").mkdir()
    Image.new("RGB", (60, 40), "white").save(tmp_path / "images/a.png")
    ring = [20, 10, 50, 10, 50, 20, 20, 20]
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 30, 10], "iscrowd": 0, "segmentation": [ring]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
        "annotations": [row],
        "categories": [{"id": 1, "name": "brick"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    seen = []
    monkeypatch.setattr(
        annotations, "draw_instances", lambda *given, **more: seen.append(given) or Image.new("RGB", (1, 1))
    )
    annotations.draw(coco.read(tmp_path / "a.json", tmp_path / "images"), 0)
    [(pixels, boxes, masks, names)] = seen
    expected = np.zeros((40, 60), bool)
    expected[10:20, 20:50] = True
    assert (pixels.shape, boxes.tolist(), names) == ((40, 60, 3), [[20, 10, 50, 20]], ["brick"])
    assert np.array_equal(next(masks), expected)


def test_a_folder_goes_before_a_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_recipe("nuclei")
    (tmp_path / "nuclei").mkdir()
    assert not is_recipe("nuclei")
    assert not is_recipe("./absent")
    assert find_data("nuclei", ["data.val_img_dir=val"]).val_img_dir == "val"
    assert find_data("nuclei.yml", []).train_img_dir == "train"
