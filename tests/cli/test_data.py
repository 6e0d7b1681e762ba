"""`maskrcnn data`: shapes, check, show, stats."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from maskrcnn.cli.annotations import find_data, is_recipe
from tests.end_to_end.pixel_data import write_discs


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


def test_pictures_are_drawn_with_their_annotations(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "show", folder, "--split", "val", "--count", "5", "--out", tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/sheet-1.jpg", f"{tmp_path}/index.html"]
    stems = sorted(path.stem for path in (folder / "val2017").iterdir())
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == [f"val-{number:06d}-{stem}.jpg" for number, stem in enumerate(stems)]


@pytest.mark.parametrize(("split", "count", "expected"), [("train", 2, 2), ("train", 0, 3), ("all", 0, 5)])
def test_some_or_all_images_of_one_or_both_splits_are_shown(maskrcnn, folder, tmp_path, split, count, expected):
    assert maskrcnn("data", "show", folder, "--split", split, "--count", count, "--out", tmp_path) == 0
    assert len(list((tmp_path / "pictures").iterdir())) == expected
    assert f"{expected} of {5 if split == 'all' else 3} ({split})" in (tmp_path / "index.html").read_text("utf-8")


def test_images_are_drawn_as_training_sees_them(maskrcnn, folder, tmp_path, capsys):
    settings = ["data.short_sides=[64]", "data.max_side=128", "data.augment.strength=medium"]
    words = ["data", "show", folder, *settings, "--augmented", "--draws", "2", "--count", "2", "--out"]
    assert maskrcnn(*words, tmp_path / "whole") == 0
    assert len(list((tmp_path / "whole" / "pictures").iterdir())) == 4
    assert "2 of 3 (train), as training sees each in its first 2 epochs" in (tmp_path / "whole/index.html").read_text()
    assert maskrcnn(*words, tmp_path / "tiles", "data.tile=32") == 0
    assert re.search(r"2 of \d\d \(train\)", (tmp_path / "tiles" / "index.html").read_text()), "tiles, not images"


@pytest.mark.parametrize("tile", [[], ["data.tile=32"]])
def test_bands_are_measured_before_images_are_drawn_as_training_sees_them(maskrcnn, tmp_path, capsys, tile):
    folder = write_discs(tmp_path / "data", "npy", _five_bands, train=2, val=1)
    words = ["data", "show", folder, "data.short_sides=[64]", *tile, "--augmented", "--out", tmp_path / "out"]
    assert maskrcnn(*words, "data.shown_bands=[5]") == 0, capsys.readouterr().err
    assert maskrcnn(*words, "data.shown_bands=[6]") == 2
    assert "expected numbers of 1 to 5" in capsys.readouterr().err


def test_an_image_that_fails_in_each_draw_is_counted_once(maskrcnn, folder, tmp_path, capsys):
    data = shutil.copytree(folder, tmp_path / "data")
    sorted((data / "train2017").iterdir())[1].write_text("no image")
    words = ["data.short_sides=[64]", "--augmented", "--draws", "3", "--out", tmp_path / "out"]
    assert maskrcnn("data", "show", data, *words) == 2
    assert "error: 1 image could not be drawn" in capsys.readouterr().err


def _five_bands(path, scene):
    np.save(path, np.stack([scene * 40 * number for number in range(1, 6)], axis=2).astype(np.uint8))


def test_images_that_cannot_be_shown_are_told_of_after_the_others(maskrcnn, folder, tmp_path, capsys):
    data = shutil.copytree(folder, tmp_path / "data")
    broken = sorted((data / "train2017").iterdir())[1]
    broken.write_text("no image")
    assert maskrcnn("data", "show", data, "--out", tmp_path / "out") == 2
    told = capsys.readouterr()
    assert told.out.endswith("index.html\n")
    assert told.err.startswith(f"error: 1 image could not be drawn, the first: the image {broken} is not of a known")
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 2
    assert maskrcnn("data", "stats", data, "--out", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert f"problem: train: 1 of the sampled images cannot be read, the first: the image {broken}" in told.err


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_what_a_folder_was_recognised_as_is_said_once(maskrcnn, folder, tmp_path, capsys, split):
    data = tmp_path / "data"
    shutil.copytree(folder / "train2017", data / "images")
    shutil.copy(folder / "annotations/instances_train2017.json", data / "trainval.json")
    for command in ("show", "stats"):
        assert maskrcnn("data", command, data, "--split", split, "--out", tmp_path / "out") == 0
        told = capsys.readouterr().out
        assert told.startswith(f"{data}: COCO")
        assert told.count(f"{data}: COCO") == 1


def test_images_too_few_to_be_divided_are_measured_and_shown_as_one(maskrcnn, folder, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(folder / "train2017", data / "images")
    told = json.loads((folder / "annotations/instances_train2017.json").read_text())
    (data / "one.json").write_text(json.dumps({**told, "images": told["images"][:1], "annotations": []}))
    assert maskrcnn("data", "stats", data, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (list(told), told["all"]["images"]) == (["all"], 1)
    assert maskrcnn("data", "show", data, "--out", tmp_path / "album") == 0
    assert len(list((tmp_path / "album/pictures").iterdir())) == 1


def test_a_data_set_is_told_in_numbers(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "stats", folder, "--out", tmp_path) == 0
    header, images, *_, page = capsys.readouterr().out.splitlines()
    assert (header.split(), images.split()) == (["train", "val"], ["images", "3", "2"])
    assert page == f"{tmp_path}/statistics.html"
    assert "<h2>Classes</h2>" in (tmp_path / "statistics.html").read_text("utf-8")


def test_numbers_come_as_json_alone(maskrcnn, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert maskrcnn("data", "stats", folder, "--json", "--split", "val", "--sample", "0") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["val"]
    assert (told["val"]["images"], told["val"]["colours"]) == (2, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["show", "stats"])
def test_a_split_that_is_none_is_refused(maskrcnn, folder, tmp_path, capsys, command):
    assert maskrcnn("data", command, folder, "--split", "test", "--out", tmp_path) == 2
    assert capsys.readouterr().err == "error: --split: expected train, val or all, got 'test'\n"


def test_numbers_of_the_splits_that_can_be_read_are_told(maskrcnn, folder, tmp_path, capsys):
    words = ["data", "stats", "demo", f"data.dataset_dir={folder}", "--out", tmp_path, "data.val_img_dir=absent"]
    assert maskrcnn(*words) == 1
    told = capsys.readouterr()
    assert told.out.split()[:3] == ["train", "images", "3"]
    assert told.err.startswith("problem: val: ")
    assert maskrcnn(*words, "--data.train_img_dir", "absent") == 2


def test_a_mask_is_drawn_where_it_was_annotated(tmp_path, monkeypatch):
    """A white picture of 40 x 60 pixels with one object on rows 10..19, columns 20..49."""
    from maskrcnn.data.formats import coco
    from maskrcnn.report import annotated

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
        annotated, "draw_instances", lambda *given, **more: seen.append(given) or Image.new("RGB", (1, 1))
    )
    data = coco.read(tmp_path / "a.json", tmp_path / "images")
    annotated.draw_annotated(data, 0, annotated.read_pixels(data, 0))
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
