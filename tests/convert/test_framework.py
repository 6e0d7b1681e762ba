"""Conversion between another framework's tensors and ours."""

import pytest
import torch
from msgspec.structs import replace

from maskrcnn.config import Backbone, BoxHead, MaskHead, Model, Neck, Recipe
from maskrcnn.convert.framework import Described, Framework, read, shapes, write

SMALL = Model(
    backbone=Backbone(kind="resnet18", width=8),
    neck=Neck(channels=16),
    box_head=BoxHead(hidden=8),
    mask_head=MaskHead(num_convs=1, channels=8),
)
RECIPE = Recipe(name="theirs", model=SMALL, classes=("cat", "dog"), category_ids=(1, 2))


def framework(**settings):
    """Describe a framework that calls everything `net.` and has batch counters."""
    settings = {"background_last": False, "idle": "counter$", **settings}
    bgr = settings.pop("bgr", False)
    return Framework(
        name="example",
        rules=((r"^", "net."),),
        describe=lambda state, hint: Described(replace(RECIPE, name=hint or "theirs"), bgr),
        mark=r"^net\.",
        **settings,
    )


@pytest.fixture
def ours():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes(SMALL, 2).items()}


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("background_last", [False, True])
@pytest.mark.parametrize("background_everywhere", [False, True])
def test_what_is_written_is_read_back_bit_for_bit(ours, bgr, background_last, background_everywhere):
    example = framework(bgr=bgr, background_last=background_last, background_everywhere=background_everywhere)
    theirs = write(example, ours, bgr)
    tensors, recipe, _ = read(example, {**theirs, "net.counter": torch.tensor(3)}, "a name")
    assert recipe.name == "a name"
    assert tensors.keys() == ours.keys()
    assert all(torch.equal(tensors[name], ours[name]) for name in ours)


def test_rows_and_channels_move_to_where_the_framework_has_them(ours):
    name = "box_head.classes.bias"
    ours[name] = torch.tensor([7.0, 1.0, 2.0])
    assert write(framework(background_last=True), ours)[f"net.{name}"].tolist() == [1, 2, 7]
    everywhere = write(framework(background_everywhere=True), ours)
    assert everywhere["net.box_head.deltas.bias"].shape == (12,)
    assert torch.equal(everywhere["net.box_head.deltas.bias"][4:], ours["box_head.deltas.bias"])
    assert everywhere["net.mask_head.masks.weight"].shape == (3, 8, 1, 1)
    stem = write(framework(), ours, bgr=True)["net.backbone.stem.weight"]
    assert torch.equal(stem[:, 0], ours["backbone.stem.weight"][:, 2])


def test_what_is_missing_unknown_or_of_another_shape_is_named(ours):
    theirs = write(framework(), ours)
    del theirs["net.rpn.deltas.bias"]
    theirs["net.extra"] = torch.zeros(1)
    theirs["net.box_head.fcs.0.bias"] = torch.zeros(9)
    with pytest.raises(ValueError, match="this is not a Mask R-CNN of example that can be read") as error:
        read(framework(), theirs)
    for words in (
        "net.rpn.deltas.bias is missing",
        "net.extra is unknown",
        "net.box_head.fcs.0.bias is 9, which box_head.fcs.0.bias of 8 cannot take",
    ):
        assert words in str(error.value)


def test_a_command_line_says_what_shapes_do_not(ours):
    words = ["model.roi_align.sampling_ratio=0", "data.std=[1, 1, 1]", "classes=[a, b]"]
    _, recipe, _ = read(framework(), write(framework(), ours), overrides=words)
    assert (recipe.model.roi_align.sampling_ratio, recipe.data.std, recipe.classes) == (0, (1, 1, 1), ("a", "b"))
    tensors, _, _ = read(framework(), write(framework(), ours), channels="bgr")
    assert torch.equal(tensors["backbone.stem.weight"], ours["backbone.stem.weight"].flip(1))
    tensors, _, _ = read(framework(bgr=True), write(framework(), ours), channels="rgb")
    assert torch.equal(tensors["backbone.stem.weight"], ours["backbone.stem.weight"])
