"""Recipes of the MindSpore system: those beside this file are in its dialect, with every key of its own."""

import re
from pathlib import Path

import msgspec
import pytest
import torch

from maskrcnn.config import (
    RPN,
    Backbone,
    BoxHead,
    Data,
    MaskHead,
    Model,
    Neck,
    Optimizer,
    Recipe,
    RoIAlign,
    Schedule,
    Train,
)
from maskrcnn.convert.framework import shapes
from maskrcnn.convert.mindspore import MINDSPORE
from maskrcnn.recipes import mindspore, read_recipe, write_recipe
from maskrcnn.recipes.describe import all_settings
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.mindspore_document import rewrite
from maskrcnn.recipes.mindspore_keys import CONVENTIONS, KEYS
from maskrcnn.recipes.read import read_layers
from maskrcnn.sentences import Note

REPOSITORY = Path(__file__).parents[2]
THEIRS = Path(__file__).parent / "mindspore"
PAGE = (REPOSITORY / mindspore.PAGE).read_text(encoding="utf-8")
RESNET50 = Recipe(
    name="resnet50_1x",
    data=Data(
        dataset_dir="your coco",
        fit="box",
        short_sides=(768,),
        max_side=1280,
        averaging="area",
        fixed_point=True,
        padding="black",
    ),
    model=Model(
        backbone=Backbone(norm="batch_norm", stem_pool="end"),
        neck=Neck(upsample="bilinear"),
        head_norm="none",
        smooth_l1_beta=1.0,
        roi_align=RoIAlign(half_pixel=False),
        rpn=RPN(
            anchor_offset=0.0, max_log_scale=4.0, num_test_candidates=2000, clip_to="batch", nms_across_levels=True
        ),
        box_head=BoxHead(max_log_scale=4.0, clip="after_nms"),
    ),
    train=Train(optimizer=Optimizer(weight_decay=5e-5), schedule=Schedule(warmup_steps=500, warmup_factor=1.0)),
)
"""Their recipe of twelve epochs: what is not written here is our default too."""

pytestmark = pytest.mark.filterwarnings("ignore::maskrcnn.sentences.Note")


def differences(recipe: Recipe, other: Recipe) -> dict[str, object]:
    before = dict(flatten(msgspec.to_builtins(other)))
    return {path: value for path, value in flatten(msgspec.to_builtins(recipe)) if value != before[path]}


def mistakes(text: str, tmp_path: Path) -> list[str]:
    """Sentences about a recipe that changes theirs of twelve epochs, without the file they are of."""
    path = tmp_path / "changed.yml"
    path.write_text(f"__BASE__: {THEIRS / 'network/resnet50_1x.yml'}\n{text}\n")
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the test looks at the sentences)
        read_recipe(path)
    lines = str(caught.value).splitlines()
    return [re.sub(r" \([^()]*\.yml[^()]*\)$", "", line.strip()) for line in (lines[1:] or lines)]


def test_the_recipe_of_twelve_epochs_has_the_meaning_it_has_there():
    assert differences(read_recipe(THEIRS / "network/resnet50_1x.yml"), RESNET50) == {}


def test_the_recipe_of_twenty_four_epochs_decays_later():
    assert differences(read_recipe(THEIRS / "network/resnet50_2x.yml"), RESNET50) == {
        "name": "resnet50_2x",
        "train.epochs": 24,
        "train.schedule.milestones": [16, 22],
    }


def test_changed_values_change_settings():
    assert differences(read_recipe(THEIRS / "network/resnet101_frozen.yml"), RESNET50) == {
        "name": "resnet101_frozen",
        "data.short_sides": [640],
        "data.max_side": 512,
        "data.flip": 0.0,
        "data.mean": [127.5, 102.0, 76.5],
        "data.std": [51.0, 51.0, 51.0],
        "data.num_workers": 2,
        "data.prefetch_size": 3,
        "data.max_rowsize": 32,
        "model.backbone.kind": "resnet101",
        "model.backbone.norm": "frozen_batch_norm",
        "model.backbone.frozen_stages": 0,
        "model.neck.upsample": "nearest",
        "train.optimizer.weight_decay": 0.0002,
        "train.optimizer.weight_decay_norm": 0.0002,
        "train.optimizer.clip_norm": 1.0,
        "train.schedule.warmup_factor": 0.25,
    }


def test_settings_of_ours_may_stand_beside_theirs():
    recipe = read_recipe(THEIRS / "network/small.yml", ["train.epochs=3", "model.rpn.anchor_offset=0.5"])
    backbone = recipe.model.backbone
    assert (backbone.kind, backbone.norm, backbone.pretrained) == ("resnet18", "batch_norm", "")
    assert (recipe.train.batch, recipe.train.epochs, recipe.train.schedule.warmup_steps) == (4, 3, 0)
    assert (recipe.model.rpn.anchor_offset, recipe.model.rpn.anchor_sizes[0]) == (0.5, 8.0)
    assert (recipe.model.box_head.num_rois, recipe.model.mask_head) == (32, MaskHead(channels=16, num_rois=16))


def test_our_recipes_stand_on_their_file_of_paths(tmp_path):
    (tmp_path / "coco.yml").write_text((THEIRS / "coco.yml").read_text())
    (tmp_path / "mine.yml").write_text("__BASE__: coco.yml\nname: mine\nmodel: {neck: {channels: 8}}\n")
    recipe = read_recipe(tmp_path / "mine.yml")
    assert (recipe.name, recipe.data.dataset_dir, recipe.model) == ("mine", "your coco", Model(neck=Neck(channels=8)))


def test_the_translation_is_a_recipe_of_ours(tmp_path):
    recipe = read_recipe(THEIRS / "network/resnet101_frozen.yml")
    write_recipe(recipe, tmp_path / "config.yml")
    assert read_recipe(tmp_path / "config.yml") == recipe


def test_a_recipe_of_theirs_says_that_it_is_one_and_ours_do_not(recwarn):
    read_recipe("demo")
    assert len(recwarn) == 0
    with pytest.warns(
        Note, match=r"is read as a recipe of the MindSpore system; 23 of its keys change nothing here \("
    ):
        read_recipe(THEIRS / "network/resnet50_1x.yml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("net: FasterRCNN", "net: expected MaskRCNN, got 'FasterRCNN', which predicts no masks"),
        ("backbone: {name: det_resnet20}", "backbone.name: expected one of det_resnet18, det_resnet34, det_resnet50,"),
        ("backbone: {in_channels: [1, 2]}", "backbone.in_channels: expected [256, 512, 1024, 2048], got [1, 2];"),
        ("backbone: {frozen: True}", "backbone.frozen: expected False, got True; it freezes the pyramid too;"),
        ("backbone: {fpn: {norm: bn}}", "backbone.fpn.norm: expected none, got 'bn'"),
        ("rpn_head: {feat_channel: 9}", "rpn_head.feat_channel: expected 256, got 9; as wide as the pyramid"),
        (
            "rpn_head: {anchor_generator: {anchor_sizes: [32]}}",
            "rpn_head.anchor_generator.anchor_sizes: expected a list",
        ),
        ("mask_head: {resolution: 7}", "mask_head.mask_shape: expected [14, 14], got [28, 28];"),
        ("bbox_head: {head: {name: Other}}", "bbox_head.head.name: expected RCNNBBoxTwoFCHead, got 'Other'"),
        ("bbox_head: {bbox_assigner: {bg_thresh: 0.3}}", "bbox_head.bbox_assigner.bg_thresh: expected 0.5, got 0.3;"),
        ("optimizer: {nesterov: True}", "optimizer.nesterov: expected False, got True; there is no setting for"),
        ("epochs: many", "train.epochs: expected an integer > 0, got 'many'"),
        ("lr: {decay_ratio: 0.1}", "lr.decay_ratio: no setting, neither here nor in recipes of the MindSpore system;"),
        ("lr: {decay_ratio: 0.1}", "did you mean lr.decay_rate?"),
        ("data: {nmes: []}", "did you mean data.names?"),
        (
            "data: {eval_transforms: {item_transforms: [Resize: {target_size: 640}]}}",
            "Resize.target_size: expected [768, 1280], which train_transforms has, since one setting",
        ),
        (
            "data: {eval_transforms: {item_transforms: [NormalizeImage: {mean: [0, 0, 0]}]}}",
            "NormalizeImage.mean: expected what train_transforms has, since data.mean is of both, got [0, 0, 0]",
        ),
        (
            "data: {train_transforms: {item_transforms: [Mosaic: {prob: 1}]}}",
            "item_transforms.Mosaic.prob: no setting,",
        ),
        (
            "data: {train_transforms: {item_transforms: [Resize: {target_size: [1]}]}}",
            "expected [height, width], got [1]",
        ),
    ],
)
def test_what_has_no_counterpart_is_refused_with_a_sentence(text, sentence, tmp_path):
    told = mistakes(text, tmp_path)
    assert any(sentence in one for one in told), told


def test_mistakes_name_the_file_and_the_key_of_theirs(tmp_path):
    path = tmp_path / "changed.yml"
    path.write_text(f"__BASE__: {THEIRS / 'network/resnet50_1x.yml'}\nclip_grads: 3\nlr: {{warmup_step: -1}}\n")
    with pytest.raises(
        ValueError, match=r"clip_grads: expected one of False, True, got 3 \(\S+changed.yml\)"
    ) as caught:
        read_recipe(path)
    assert re.search(r"train.schedule.warmup_steps: .* got -1 \(\S+changed.yml: lr.warmup_step\)", str(caught.value))


def test_one_of_their_keys_in_a_recipe_of_ours_is_told_by_its_name_here(tmp_path):
    with pytest.raises(ValueError, match=r"it is the MindSpore system's name of train\.schedule\.decay"):
        read_recipe("demo", ["lr.decay_rate=0.5"])


def test_every_key_of_theirs_is_known_and_leads_to_settings_that_exist():
    layers = [layer for file in THEIRS.rglob("*.yml") for layer in read_layers(file)]
    theirs = {path for layer in layers for path, _ in mindspore.flat_keys(layer.settings)} - set(all_settings())
    seldom = {path for path in KEYS if re.search(r"\.RandomHSV\.|\.interp$|eval.*\.bgr2rgb$", path)}
    assert theirs | seldom == set(KEYS) - set(all_settings())
    assert {setting for key in KEYS.values() for setting in key.settings} <= set(all_settings())


def test_every_key_is_on_the_page_once_with_its_settings_or_the_reason_why_it_has_none():
    rows = [re.split(r" \| ", line.strip("| ")) for line in PAGE.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): row[1] for row in rows if row[0].strip("`") in KEYS}
    assert sorted(table) == sorted(set(KEYS) - {"net"})
    for path, cell in table.items():
        settings = KEYS[path].settings
        assert all(f"`{setting}`" in cell for setting in settings) if settings else len(cell) > 5, path


def test_the_page_is_in_step_with_the_keys():
    command = re.search(r"`(python -m \S+ docs\S+)`", PAGE)[1]
    assert rewrite(PAGE) == PAGE, f"out of date; run: {command}"


def test_a_recipe_of_theirs_and_a_file_of_weights_have_the_same_conventions():
    assert set(CONVENTIONS) <= set(all_settings())
    recipe = read_recipe(THEIRS / "network/resnet50_1x.yml")
    with torch.device("meta"):
        state = {MINDSPORE.theirs(name): torch.empty(shape) for name, shape in shapes(recipe.model, 80).items()}
    described = differences(MINDSPORE.describe(state, "").recipe, recipe)
    of_the_weights = {path for path in described if path.startswith(("data.", "model."))}
    assert of_the_weights == {
        "data.dataset_dir",
        "model.backbone.norm",
    }  # files do not tell live norms from frozen ones
