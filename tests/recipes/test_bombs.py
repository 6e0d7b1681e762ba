"""Recipes that are made never to end: bounded in depth, size and number, in a sentence."""

import runpy
from pathlib import Path

import msgspec
import pytest

from maskrcnn.config import Recipe
from maskrcnn.recipes import read_recipe, text
from maskrcnn.recipes.check import _type_at
from maskrcnn.recipes.describe import all_settings

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "torture_bombs.py"))
SLOW = {"long.yml", "documents.yml"}
ABSURD = (10**12, 10**31, -(10**31))


@pytest.mark.parametrize("name", sorted(TOOL["RECIPES"].keys() - SLOW))
def test_a_recipe_that_never_ends_is_refused(tmp_path, name):
    with pytest.raises((ValueError, FileNotFoundError)) as told:
        read_recipe(str(TOOL["RECIPES"][name](tmp_path)))
    assert len(str(told.value)) < 10_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "line 1: expected up to 32 lists and sections in each other"),
        ("[" * 3_000 + "]" * 3_000, "line 1: expected up to 32 lists"),
        ("\n".join(f"k{number}: 1" for number in range(2_001)), "line 2001: expected up to 2000 settings in a section"),
        ("a: &a [*a]", r"line 1: \*a repeats what it is in"),
        ("x" * (1 << 21), "expected settings of up to 1048576 letters, received 2097152"),
    ],
)
def test_what_is_too_much_is_told(content, reason):
    with pytest.raises(ValueError, match=reason):
        text.parse(content)


def test_what_real_recipes_do_is_read():
    names = [f"kind of beetle number {number}" for number in range(10_000)]
    assert text.parse(f"classes: {text.dump(names)}")["classes"] == names
    assert text.parse("a: &a {b: [1, 2]}\nc: *a\nd: [*a, *a]")["d"][1] == {"b": [1, 2]}


def test_an_override_may_be_nested_no_deeper():
    with pytest.raises(ValueError, match=r"data\.short_sides: expected a list"):
        read_recipe("demo", ["data.short_sides=" + "[" * 100_000])


@pytest.mark.parametrize("path", all_settings())
@pytest.mark.parametrize("value", ABSURD)
def test_no_number_is_without_a_bound(path, value):
    kind = _type_at(path)
    for wrapped in (value, float(value), [value], [value] * 2, [[value, value]]):
        try:
            given = msgspec.convert(wrapped, kind)
        except msgspec.ValidationError:
            continue
        assert path in UNBOUNDED, f"{path} takes {given}"


UNBOUNDED = {
    "data.mean",
    "data.std",
    "data.level_range",
    "data.level_percentiles",
    "category_ids",
    "train.optimizer.lr",
}
"""Settings that state numbers of pixels, ids of a file, or a rate with which training ends in a sentence."""


def test_a_network_of_absurd_size_is_refused():
    with pytest.raises(ValueError, match=r"model\.backbone\.width: expected an integer > 0 and <= 1024, got 100000"):
        read_recipe("demo", ["model.backbone.width=100000"])
    with pytest.raises(ValueError, match=r"train\.epochs: expected an integer > 0 and <= 1000000000, got 10000000000"):
        read_recipe("demo", ["train.epochs=10000000000"])
    assert Recipe
