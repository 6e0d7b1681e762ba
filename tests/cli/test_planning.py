"""`maskrcnn train DIR`, `data plan`, `data split` and `data convert`: from a folder to a model."""

import json
import shutil

import pytest

from maskrcnn.cli.planning import is_data, make_plan, name_of, planned
from maskrcnn.data.shapes import generate
from maskrcnn.recipes import read_recipe

SMALL = [
    "train.max_steps=2",
    "train.epochs=1",
    "train.batch=2",
    "train.evaluate_every=1",
    "model.backbone.kind=resnet18",
    "model.backbone.norm=group_norm",
    "model.backbone.pretrained=''",
    "model.backbone.width=8",
    "model.neck.channels=8",
    "model.box_head.hidden=16",
    "model.mask_head.channels=8",
    "model.mask_head.num_convs=1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`images/` and one file: what labelling tools export."""
    path = tmp_path_factory.mktemp("data")
    generate(path / "shapes", num_train=8, num_val=1, seed=0, side=64)
    shutil.copytree(path / "shapes/train2017", path / "mine/images")
    shutil.copy(path / "shapes/annotations/instances_train2017.json", path / "mine/labels.json")
    return path / "mine"


def test_a_folder_is_planned_trained_scored_and_resumed(maskrcnn, folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert maskrcnn("train", folder, *SMALL, "--out", run) == 0
    text = capsys.readouterr().out
    assert f"# A plan for {folder}, made for this machine" in text
    assert "of 8 images set apart for validation" in text
    assert (run / "report.html").is_file()
    split = json.loads((run / "split.json").read_text())
    num_val = len(split["val"])
    assert len(split["train"]) + num_val == 8
    assert 0 < num_val < 3
    assert read_recipe(run).data.split_file == read_recipe(run / "plan.yml").data.split_file == str(run / "split.json")
    plan = read_recipe(run / "plan.yml")
    assert (plan.train.max_steps, plan.data.dataset_dir) == (2, str(folder))
    # Scored on the images that were set apart, whichever way the data are named.
    for source in (folder, run / "plan.yml", run):
        assert maskrcnn("eval", source, "--weights", run, "--out", tmp_path / "scores") == 0
        assert f"on {num_val} images of" in capsys.readouterr().out
    assert maskrcnn("train", folder, *SMALL, "--out", run, "--resume", "auto") == 0
    assert f"the plan is that of {run}/plan.yml" in capsys.readouterr().out


def test_a_plan_is_made_anew_unless_its_run_goes_on(tmp_path, folder, capsys):
    run = tmp_path / "run"
    first = planned(str(folder), ["train.epochs=3"], run, goes_on=True)
    assert (first.train.epochs, read_recipe(run / "plan.yml").train.epochs) == (3, 3)
    assert planned(str(folder), ["train.epochs=4"], run, goes_on=False).train.epochs == 4
    assert planned(str(folder), [], run, goes_on=True).train.epochs == 4
    (run / "config.yml").touch()  # a run has begun: its plan stays
    with pytest.raises(ValueError, match="already holds a run; go on with it by --resume auto"):
        planned(str(folder), ["train.epochs=5"], run, goes_on=False)
    assert read_recipe(run / "plan.yml").train.epochs == 4


def test_all_images_of_a_foreign_folder_are_scored(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("train", folder, *SMALL, "train.evaluate_every=0", "--out", tmp_path / "run") == 0
    assert not (tmp_path / "run/split.json").exists()
    shutil.copytree(folder, tmp_path / "other")
    capsys.readouterr()
    weights = tmp_path / "run"
    assert maskrcnn("eval", tmp_path / "other", "--weights", weights, "--out", tmp_path / "scores") == 0
    text = capsys.readouterr().out
    assert "has no validation split: all its images are scored" in text
    assert "on 8 images of" in text
    assert maskrcnn("eval", weights, "--weights", weights, "--out", tmp_path / "scores") == 2
    assert "has no validation images; name those that a run set apart" in capsys.readouterr().err


def test_a_plan_is_written_with_reasons_and_is_a_recipe(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "plan", folder, "train.epochs=7", "--out", tmp_path / "p.yml") == 0
    lines = (tmp_path / "p.yml").read_text().splitlines()
    assert "  epochs: 7  # as you said" in lines
    assert any(line.startswith("  short_sides: [64]  # images have ") for line in lines)
    recipe, text = make_plan(str(folder), ["train.epochs=7"], tmp_path / "p.yml")
    assert read_recipe(tmp_path / "p.yml") == recipe
    assert text.count("\n") == len(lines)
    assert maskrcnn("data", "plan", folder, "--out", tmp_path / "p.yml") == 2


def test_a_network_that_a_person_chose_is_theirs_in_the_plan(folder, tmp_path):
    own = ["model.backbone.kind=resnet18", "model.backbone.pretrained=", "model.backbone.frozen_stages=0"]
    _, text = make_plan(str(folder), own, tmp_path / "p.yml")
    assert "    kind: resnet18  # as you said" in text.splitlines()


def test_a_split_is_written_and_used(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "split", folder, "data.val_share=0.5", "--out", tmp_path / "s.json") == 0
    text = capsys.readouterr().out
    assert "images        4    4" in text
    assert f"data.split_file={tmp_path}/s.json" in text
    assert maskrcnn("data", "split", folder, "--out", tmp_path / "s.json") == 2


def test_a_data_set_is_converted_there_and_back(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "convert", folder, tmp_path / "yolo", "--to", "yolo", "data.classes=[disc,round=ring]") == 0
    text = capsys.readouterr().out
    assert "lost: " in text
    assert f"written to {tmp_path}/yolo: YOLO segmentation; read: 8 images" in text
    assert maskrcnn("data", "convert", tmp_path / "yolo", tmp_path / "coco") == 0
    content = json.loads((tmp_path / "coco/annotations/instances_train2017.json").read_text())
    assert [one["name"] for one in content["categories"]] == ["disc", "round"]
    assert maskrcnn("data", "convert", folder, tmp_path / "coco") == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err


def test_data_and_recipes_are_told_apart(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    assert is_data(str(folder))
    assert not is_data("nuclei")
    assert not is_data("absent/folder")
    (tmp_path / "nuclei").mkdir()
    with pytest.raises(ValueError, match=r"write \./nuclei for the data in the folder, nuclei\.yml for the recipe"):
        is_data("nuclei")
    assert is_data("./nuclei")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yml").touch()
    assert not is_data("run")
    (tmp_path / "run/images").mkdir()
    assert is_data("run")  # a recipe among data
    (tmp_path / "run/weights").mkdir()
    assert not is_data("run")
    (tmp_path / "labels.json").touch()
    with pytest.raises(ValueError, match=r"labels\.json is a file of annotations or an image; give the folder"):
        is_data("labels.json")


def test_a_run_is_called_after_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_of(".") == name_of(str(tmp_path))
    assert name_of("/data/My Cells (2).zip") == "my-cells-2"
