"""Weights of any make, from one door; and out of another."""

import pickle

import msgspec
import pytest
import torch
import yaml
from safetensors.torch import save_file

from maskrcnn.config import RPN, Backbone, BoxHead, Data, MaskHead, Model, Neck, PointHead, Recipe
from maskrcnn.convert import checkpoint, zoo
from maskrcnn.convert.checkpoint import FRAMEWORKS, framework_of, load_any
from maskrcnn.convert.framework import shapes, write
from maskrcnn.convert.mindspore_file import write_ckpt
from maskrcnn.convert.write import export
from maskrcnn.weights import Weights, save_weights


def save(framework, state, folder):
    """Write a file as the framework publishes it."""
    if framework == "mindspore":
        return write_ckpt(folder / "seed.ckpt", state)
    names = {"torchvision": "tv.pth", "detectron2": "model_final.pkl", "mmdetection": "mask_rcnn.pth"}
    path = folder / names[framework]
    if framework == "detectron2":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    else:
        torch.save({"meta": {}, "state_dict": state} if framework == "mmdetection" else state, path)
    return path


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_file_is_recognised_and_read_bit_for_bit(small, framework, tmp_path):
    path = save(framework, write(FRAMEWORKS[framework], small.tensors, bgr=framework == "detectron2"), tmp_path)
    found = load_any(path)
    assert found.recipe.name.startswith(framework)
    assert found.origin == str(path)
    assert found.recipe.classes == ("class_1", "class_2")
    assert found.tensors.keys() == small.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in small.tensors.items() if "norm" not in name)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_framework_takes_the_tensors_of_another(small, framework):
    state = write(FRAMEWORKS[framework], small.tensors)
    assert framework_of(state) is FRAMEWORKS[framework]
    assert [one.name for one in FRAMEWORKS.values() if one.recognises(state)] == [framework]


def test_what_a_file_cannot_tell_is_told_on_the_command_line(small, tmp_path):
    path = save("torchvision", write(FRAMEWORKS["torchvision"], small.tensors), tmp_path)
    recipe = load_any(path, ["classes=[cat, dog]", "category_ids=[3, 7]", "data.max_side=900"]).recipe
    assert (recipe.classes, recipe.category_ids, recipe.data.max_side) == (("cat", "dog"), (3, 7), 900)
    with pytest.raises(ValueError, match=r"no such setting; did you mean model\.roi_align"):
        load_any(path, ["model.roi_sample=0"])


def test_names_that_a_file_carries_are_those_of_its_classes(small, tmp_path):
    state = write(FRAMEWORKS["mmdetection"], small.tensors)
    torch.save({"meta": {"CLASSES": ["cat", "dog"]}, "state_dict": state}, tmp_path / "w.pth")
    assert load_any(tmp_path / "w.pth").recipe.classes == ("cat", "dog")
    assert load_any(tmp_path / "w.pth", ["classes=[a, b]"]).recipe.classes == ("a", "b")


def test_halves_become_float32(small, tmp_path):
    state = {name: tensor.half() for name, tensor in write(FRAMEWORKS["torchvision"], small.tensors).items()}
    found = load_any(save("torchvision", state, tmp_path))
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}


def test_our_own_weights_come_with_their_recipe_and_take_no_other(small, tmp_path):
    folder = save_weights(tmp_path / "own", small.tensors, small.recipe, {})
    for place in (folder, folder / "model.safetensors"):
        found = load_any(place)
        assert found.recipe == small.recipe
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in small.tensors.items())
    assert load_any(folder, ["classes=[a, b]"]).recipe.classes == ("a", "b")
    with pytest.raises(ValueError, match=r"has a recipe beside it, which describes its network; leave out model\.\*"):
        load_any(folder, ["model.roi_align.sampling_ratio=0"])
    (folder / "config.yml").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected config\.yml beside"):
        load_any(folder / "model.safetensors")


def test_a_safetensors_file_without_a_recipe_may_be_of_another_maker(small, tmp_path):
    save_file(write(FRAMEWORKS["torchvision"], small.tensors), tmp_path / "tv.safetensors")
    assert load_any(tmp_path / "tv.safetensors").recipe.name == "torchvision_resnet50"


def test_tensors_of_nobody_are_refused_with_their_file(tmp_path):
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"w\.pth: expected a Mask R-CNN of torchvision, .* received tensors named enc"
    ):
        load_any(tmp_path / "w.pth")


def test_a_published_name_is_brought_once_and_read_as_its_row_says(small, tmp_path, monkeypatch):
    state = write(FRAMEWORKS["detectron2"], small.tensors, bgr=True)
    path = save("detectron2", state, tmp_path)
    monkeypatch.setattr(zoo, "download", lambda one: path)
    monkeypatch.setattr(checkpoint, "_load_foreign", Recorded(checkpoint._load_foreign))
    name = "detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
    found = load_any(name)
    assert checkpoint._load_foreign.arguments[:2] == (path, zoo.find(name))
    assert found.recipe.model.backbone.stride_in_1x1
    assert found.recipe.data.std == (1.0, 1.0, 1.0)
    assert torch.equal(found.tensors["backbone.stem.weight"], small.tensors["backbone.stem.weight"])
    with pytest.raises(ValueError, match=r"is a backbone; train on it with model.backbone.pretrained=msra://R-50.pkl"):
        load_any("msra://R-50.pkl")


@pytest.mark.parametrize("place", ["model_final_af9cf5.pkl", "detectron2://Cityscapes/mask_rcnn_R_50_FPN"])
def test_a_file_under_its_published_name_is_read_as_the_published_one(small, place, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    ours = {name: torch.rand(shape, generator=generator) for name, shape in shapes(small.recipe.model, 8).items()}
    path = save("detectron2", write(FRAMEWORKS["detectron2"], ours, bgr=True), tmp_path)
    path = path.rename(tmp_path / "model_final_af9cf5.pkl")
    monkeypatch.setattr(zoo, "download", lambda one: path)
    recipe = load_any(place if "://" in place else path).recipe
    assert (recipe.classes[:2], recipe.category_ids[-2:]) == (("person", "rider"), (32, 33))
    assert (recipe.data.short_sides, recipe.data.max_side) == ((1024,), 2048)
    assert load_any(path, ["category_ids=[1,2,3,4,5,6,7,8]"]).recipe.category_ids == (1, 2, 3, 4, 5, 6, 7, 8)
    recipe = load_any(path.rename(tmp_path / "mine.pkl")).recipe
    assert (recipe.classes[0], recipe.data.short_sides) == ("class_1", (800,))


def test_the_baseline_of_detectron1_is_known_by_its_file(small, tmp_path):
    path = save("detectron2", write(FRAMEWORKS["detectron2"], small.tensors, bgr=True), tmp_path)
    for name, half_pixel, samples in (("model_final_62ca52.pkl", False, 2), ("model_final_a54504.pkl", True, 0)):
        path = path.rename(tmp_path / name)
        model = load_any(path).recipe.model
        assert (model.roi_align.half_pixel, model.roi_align.sampling_ratio) == (half_pixel, samples)


class Recorded:
    """Calls through, and keeps what it was called with."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        self.arguments = arguments
        return self.function(*arguments)


@pytest.mark.parametrize(
    ("to", "file"),
    [("torchvision", "w.pth"), ("torchvision", "w.safetensors"), ("detectron2", "w.pth"), ("mindspore", "w.ckpt")],
)
def test_what_is_exported_is_read_back_bit_for_bit(small, to, file, tmp_path):
    sentences = list(export(small, to, tmp_path / file))
    assert sentences[0].startswith(f"written to {tmp_path / file}: ")
    found = load_any(tmp_path / file)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in small.tensors.items() if "norm" not in name)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_differences_that_the_other_system_cannot_be_told_are_listed(small, tmp_path):
    text = "\n".join(export(small, "torchvision", tmp_path / "w.pth"))
    assert "model.rpn.anchor_offset: 0.5 here, 0.0 there" in text
    assert "model.roi_align.half_pixel: True here, False there" in text
    assert "train" not in text
    theirs = load_any(tmp_path / "w.pth")
    assert (
        len(list(export(theirs, "torchvision", tmp_path / "again.pth"))) == 1
    )  # what came from there differs in nothing


def test_detectron2_gets_a_configuration_that_says_what_these_weights_need(small, tmp_path):
    recipe = msgspec.structs.replace(small.recipe, data=Data(short_sides=(640, 800)))
    sentences = list(export(small._replace(recipe=recipe), "detectron2", tmp_path / "w.pth"))
    assert sentences[0].endswith(f"; its configuration: {tmp_path / 'w.yaml'}")
    assert sentences[2:] == ["  data.whole_levels: False here, True there"]
    config = yaml.safe_load((tmp_path / "w.yaml").read_text())
    model = config["MODEL"]
    assert model["WEIGHTS"] == str(tmp_path / "w.pth")
    assert model["ANCHOR_GENERATOR"] == {
        "SIZES": [[32.0], [64.0], [128.0], [256.0], [512.0]],
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
        "OFFSET": 0.5,
    }
    assert (model["RESNETS"]["STRIDE_IN_1X1"], model["RESNETS"]["RES2_OUT_CHANNELS"]) == (False, 256)
    assert (model["ROI_BOX_HEAD"]["POOLER_SAMPLING_RATIO"], model["ROI_HEADS"]["NUM_CLASSES"]) == (2, 2)
    assert (config["INPUT"]["FORMAT"], config["INPUT"]["MIN_SIZE_TEST"]) == ("RGB", 800)


def test_what_detectron2_was_given_comes_back_with_its_own_recipe(small, tmp_path):
    data = Data(mean=(110.0, 110.0, 110.0), std=(1.0, 1.0, 1.0))  # which in Detectron2's rules is blue first
    recipe = msgspec.structs.replace(small.recipe, data=data)
    list(export(small._replace(recipe=recipe), "detectron2", tmp_path / "w.pth"))
    found = load_any(tmp_path / "w.pth")
    assert found.recipe == recipe
    assert torch.equal(found.tensors["backbone.stem.weight"], small.tensors["backbone.stem.weight"])


def test_names_that_would_steer_a_terminal_do_not(small, tmp_path):
    state = write(FRAMEWORKS["mmdetection"], small.tensors)
    torch.save({"meta": {"CLASSES": ["cat\x1b[31m", "dog"]}, "state_dict": state}, tmp_path / "w.pth")
    assert load_any(tmp_path / "w.pth").recipe.classes == ("cat\\x1b[31m", "dog")


def test_a_network_that_the_other_system_does_not_have_is_refused(small, tmp_path):
    model = small.recipe.model
    backbone = msgspec.structs.replace(model.backbone, norm="group_norm")
    grouped = msgspec.structs.replace(model, backbone=backbone)
    tensors = {name: tensor for name, tensor in small.tensors.items() if "running" not in name}
    weights = small._replace(tensors=tensors, recipe=msgspec.structs.replace(small.recipe, model=grouped))
    for to, file in (("torchvision", "w.pth"), ("mindspore", "w.ckpt")):
        with pytest.raises(
            ValueError, match=rf"{to} has no Mask R-CNN with model.backbone.norm=group_norm, expected frozen"
        ):
            list(export(weights, to, tmp_path / file))
    with pytest.raises(
        ValueError, match=r"Detectron2's group norm has 32 groups; these weights, with model.neck.channels=16"
    ):
        list(export(weights, "detectron2", tmp_path / "w.pth"))
    with pytest.raises(ValueError, match=r"w\.txt: expected a file that ends in \.ckpt for mindspore"):
        list(export(weights, "mindspore", tmp_path / "w.txt"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "file", "settings", "sentence"),
    [
        (
            "mindspore",
            "w.ckpt",
            {"mask_head": MaskHead(num_convs=5)},
            r"model\.mask_head\.num_convs=5, expected 4; export to det",
        ),
        ("detectron2", "w.pth", {"point_head": PointHead(enabled=True)}, r"point_head\.enabled=True, expected False$"),
        ("mindspore", "w.ckpt", {"rpn": RPN(num_convs=2)}, r"model\.rpn\.num_convs=2, expected 1"),
        ("torchvision", "w.pth", {"box_head": BoxHead(class_agnostic=True)}, r"class_agnostic=True, expected False"),
        (
            "torchvision",
            "w.pth",
            {"backbone": Backbone(kind="resnet18", width=32)},
            r"model\.backbone\.width=32, expected 64",
        ),
        ("torchvision", "w.pth", {"rpn": RPN(aspect_ratios=(1.0, 2.0))}, r"aspect_ratios=\[1\.0, 2\.0\], expected \[0"),
    ],
)
def test_layers_that_the_other_system_has_no_place_for_are_refused_before_anything_is_written(
    to, file, settings, sentence, tmp_path
):
    model = Model(
        **{"backbone": Backbone(kind="resnet18"), "neck": Neck(channels=16), "box_head": BoxHead(hidden=8), **settings}
    )
    tensors = {name: torch.zeros(shape) for name, shape in shapes(model, 2).items()}
    weights = Weights(tensors, Recipe(model=model, classes=("cat", "dog"), category_ids=(1, 2)), "here")
    with pytest.raises(ValueError, match=sentence):
        list(export(weights, to, tmp_path / file))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("to", "file"), [("torchvision", "w.pth"), ("detectron2", "w.pth"), ("mindspore", "w.ckpt")])
def test_no_other_system_has_efficientnet_lite(to, file, small, tmp_path):
    model = msgspec.structs.replace(small.recipe.model, backbone=Backbone(kind="efficientnet_lite0"))
    weights = small._replace(recipe=msgspec.structs.replace(small.recipe, model=model))
    with pytest.raises(
        ValueError, match=rf"{to} has no Mask R-CNN with model.backbone.kind=efficientnet_lite0, expected"
    ):
        list(export(weights, to, tmp_path / file))
    assert list(tmp_path.iterdir()) == []
