"""From another system's checkpoint to a run on other classes, as a person types it."""

import json

import pytest
import torch

from maskrcnn.cli import main
from maskrcnn.config import RPN, Backbone, BoxHead, Data, MaskHead, Model, Neck, Optimizer, Recipe, Schedule, Train
from maskrcnn.convert.checkpoint import FRAMEWORKS
from maskrcnn.convert.framework import shapes, write
from maskrcnn.data.shapes import generate
from maskrcnn.predict import load
from maskrcnn.recipes import write_recipe
from maskrcnn.weights import load_weights

MODEL = Model(
    backbone=Backbone(kind="resnet50", width=8),
    neck=Neck(channels=16),
    rpn=RPN(num_train_proposals=20, num_test_proposals=20, num_samples=32),
    box_head=BoxHead(hidden=16, num_rois=16, num_detections=5),
    mask_head=MaskHead(channels=16, num_rois=8),
)


def run(*words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0, words


def test_a_detectron2_checkpoint_learns_other_classes_and_goes_back_there(tmp_path, capsys):
    data = generate(tmp_path / "shapes", num_train=4, num_val=2, seed=1, side=64)
    annotations = json.loads((data / "annotations" / "instances_train2017.json").read_text())
    names = [category["name"] for category in annotations["categories"]]
    generator = torch.Generator().manual_seed(0)
    tensors = {name: 0.1 * torch.rand(shape, generator=generator) for name, shape in shapes(MODEL, 3).items()}
    tensors["mask_head.masks.bias"] = torch.tensor([1.0, 2.0, 3.0])
    torch.save({"model": write(FRAMEWORKS["detectron2"], tensors, bgr=True)}, tmp_path / "model_final.pth")

    converted = tmp_path / "converted"
    run("convert", tmp_path / "model_final.pth", converted, f"classes=[bird, {names[1]}, fish]")
    assert f"resnet50, 3 classes (bird, {names[1]}, fish)" in capsys.readouterr().out
    recipe = Recipe(
        name="mine",
        device="cpu",
        data=Data(dataset_dir=str(data), short_sides=(64,), max_side=96, num_workers=0),
        train=Train(
            batch=2,
            epochs=1,
            evaluate_every=0,
            log_every=1,
            optimizer=Optimizer(lr=1e-6),
            schedule=Schedule(warmup_steps=0, milestones=()),
        ),
    )
    write_recipe(recipe, tmp_path / "mine.yml")
    words = (
        "model.rpn.num_train_proposals=20",
        "model.rpn.num_samples=32",
        "model.box_head.num_rois=16",
        "model.mask_head.num_rois=8",
    )
    run("train", tmp_path / "mine.yml", *words, "--weights", converted, "--out", tmp_path / "run")
    said = capsys.readouterr().out
    assert f"initialised from {converted / 'model.safetensors'}; its network" in said
    assert f"; 1 class is kept by name ({names[1]})" in said

    trained = load_weights(tmp_path / "run")
    assert trained.recipe.classes == tuple(names)
    assert trained.recipe.model.backbone.stride_in_1x1
    assert trained.recipe.data.std == (1.0, 1.0, 1.0)
    torch.testing.assert_close(trained.tensors["mask_head.masks.bias"][1], torch.tensor(2.0), rtol=0, atol=1e-3)

    run("eval", tmp_path / "mine.yml", "--weights", tmp_path / "run", "--out", tmp_path / "scores")
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["speed"]["images"] == 2
    run("predict", tmp_path / "run", data / "val2017", "--out", tmp_path / "found", "--score", "0")
    assert len(list((tmp_path / "found").glob("*.png"))) + len(list((tmp_path / "found").glob("*.jpg"))) == 2

    run("convert", tmp_path / "run", tmp_path / "back.pth", "--to", "detectron2")
    assert (tmp_path / "back.yaml").is_file()
    before, after = load(tmp_path / "run"), load(tmp_path / "back.pth")
    assert after.recipe.data.std == before.recipe.data.std
    assert torch.equal(before.model.backbone.stem.weight, after.model.backbone.stem.weight)
