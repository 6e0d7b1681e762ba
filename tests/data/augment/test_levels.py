"""A strength decides every piece that has no setting of its own."""

import msgspec
import pytest

from maskrcnn.config import Augment
from maskrcnn.data.augment.levels import LEVELS, Pieces, resolve
from maskrcnn.data.formats import coco
from maskrcnn.recipes import read_recipe
from maskrcnn.train.plan import plan_steps, share_out


def test_nothing_changes_without_a_setting():
    assert resolve(Augment()) == Pieces() == LEVELS["off"]
    assert not Pieces().moves


@pytest.mark.parametrize("name", Pieces._fields)
def test_each_piece_has_a_setting_of_the_same_name_that_wins_over_any_strength(name):
    value = {"scale": (0.7, 0.9), "quarter_turns": True, "jpeg": 40}.get(name, 0.25)
    for strength, level in LEVELS.items():
        settings = Augment(**{"strength": strength, name: value})
        assert resolve(settings) == level._replace(**{name: value})


def test_every_setting_but_the_strength_is_a_piece():
    names = {field.name for field in msgspec.structs.fields(Augment)}
    assert names == {*Pieces._fields, "strength"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("data.augment.scale=[2,1]", r"data\.augment\.scale: expected the lowest factor before the highest, got \[2"),
        ("data.augment.scale=2", r"scale: expected a list of 2, each a number > 0 and <= 100 or null, got 2"),
        ("data.augment.whole_objects=0.5", "has no effect on images that are never enlarged"),
        ("data.augment.angle=200", r"expected a number >= 0 and <= 180 or null, got 200"),
        ("data.augment.hue=0.7", r"expected a number >= 0 and <= 0\.5 or null, got 0\.7"),
        ("data.augment.jpeg=0", r"expected an integer >= 1 and <= 100 or null, got 0"),
        ("data.augment.blend=1", "has no effect where nothing is pasted; set data.augment.copy_paste, such as 0.5"),
        ("data.augment.copy_paste=0.5 train.batch=3", r"train\.batch: expected an even number, .* pairs, got 3"),
        (
            "data.augment.copy_paste=0.5 train.batch=6 train.micro_batch=3",
            r"train\.micro_batch: expected an even number",
        ),
        *[
            (f"data.augment.{piece} data.mean=[1,2] data.std=[1,2]", "has no effect on images of 2 bands")
            for piece in ("hue=0.1", "saturation=0.1", "jpeg=50")
        ],
    ],
)
def test_settings_that_mean_nothing_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_recipe("demo", given.split())


def test_what_is_made_for_colours_is_left_out_of_a_strength_where_there_are_none():
    bands = ["data.mean=[1,2]", "data.std=[1,2]", "model.backbone.pretrained=", "model.backbone.frozen_stages=0"]
    read_recipe("demo", [*bands, "data.augment.strength=strong", "data.augment.hue=0"])
    assert resolve(Augment(strength="strong"), 2) == LEVELS["strong"]._replace(saturation=0.0, hue=0.0, jpeg=100)


def test_processes_whose_share_is_odd_cannot_paste(write_split, annotate):
    recipe = read_recipe("demo", ["data.augment.copy_paste=0.5", "train.batch=6"])
    data = coco.read(*write_split([annotate()]))
    plan_steps(recipe, data, share_out(recipe.train, 1))
    with pytest.raises(ValueError, match="copy-paste takes the images of a micro-batch in pairs, but it has 3"):
        plan_steps(recipe, data, share_out(recipe.train, 2))
