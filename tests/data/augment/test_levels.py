"""A strength decides every piece that has no setting of its own."""

import msgspec
import pytest

from maskrcnn.config import Augment
from maskrcnn.data.augment.levels import LEVELS, Pieces, resolve
from maskrcnn.recipes import read_recipe


def test_nothing_changes_without_a_setting():
    assert resolve(Augment()) == Pieces() == LEVELS["off"]
    assert not Pieces().moves


@pytest.mark.parametrize("name", Pieces._fields)
def test_each_piece_has_a_setting_of_the_same_name_that_wins_over_any_strength(name):
    value = {"scale": (0.7, 0.9), "quarter_turns": True}.get(name, 0.25)
    for strength, level in LEVELS.items():
        settings = Augment(**{"strength": strength, name: value})
        assert resolve(settings) == level._replace(**{name: value})


def test_every_setting_but_the_strength_is_a_piece():
    names = {field.name for field in msgspec.structs.fields(Augment)}
    assert names == {*Pieces._fields, "strength"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("data.augment.scale=[2, 1]", r"data\.augment\.scale: expected the lowest factor before the highest, got \[2"),
        ("data.augment.scale=2", r"data\.augment\.scale: expected a list of 2, each a number > 0 or null, got 2"),
        ("data.augment.whole_objects=0.5", "has no effect on images that are never enlarged"),
        ("data.augment.angle=200", r"expected a number >= 0 and <= 180 or null, got 200"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_recipe("demo", [given])


def test_whole_objects_go_with_any_strength_that_enlarges():
    read_recipe("demo", ["data.augment.strength=light", "data.augment.whole_objects=1"])
    read_recipe("demo", ["data.augment.scale=[1, 2]", "data.augment.whole_objects=1"])
