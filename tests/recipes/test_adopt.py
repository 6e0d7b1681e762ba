import pytest
from msgspec.structs import replace

from maskrcnn.config import Backbone, Model, Recipe
from maskrcnn.models.mask_rcnn import head_norm
from maskrcnn.recipes import read_recipe
from maskrcnn.recipes.adopt import refuse_other_pixels, with_live_norm, with_network_of


def recipe(norm: str, heads: str = "") -> Recipe:
    model = Model(backbone=replace(Backbone(), norm=norm), head_norm=heads)
    return Recipe(model=model)


@pytest.mark.parametrize(
    ("weights", "ours", "expected"),
    [
        (("frozen_batch_norm", ""), "batch_norm", ("batch_norm", None)),
        (("frozen_batch_norm", "batch_norm"), "sync_batch_norm", ("sync_batch_norm", "sync_batch_norm")),
        (("batch_norm", "batch_norm"), "sync_batch_norm", ("sync_batch_norm", "sync_batch_norm")),
        (("sync_batch_norm", ""), "batch_norm", ("batch_norm", "batch_norm")),
        (("sync_batch_norm", "none"), "batch_norm", ("batch_norm", None)),
        (("batch_norm", ""), "fixed_batch_norm", ("fixed_batch_norm", "batch_norm")),
        (("fixed_batch_norm", ""), "sync_batch_norm", ("sync_batch_norm", None)),
        (("batch_norm", "batch_norm"), "frozen_batch_norm", ("batch_norm", "batch_norm")),
        (("group_norm", ""), "sync_batch_norm", ("group_norm", "group_norm")),
    ],
)
def test_weights_go_on_with_the_batch_norm_that_a_recipe_trains(weights, ours, expected):
    """As (norm of the backbone, norm of the heads): heads have a norm where the weights have one."""
    model = with_live_norm(recipe(*weights), recipe(ours)).model
    assert (model.backbone.norm, head_norm(model)) == expected


DEEP = ("data.levels=fixed", "data.level_range=[[0, 900]]")
BANDS = ("data.mean=[1, 2, 3, 4, 5]", "data.std=[1, 2, 3, 4, 5]")


def adopt(ours, theirs, words=(), *, seen):
    """Begin a run whose recipe has some settings with weights whose recipe has others."""
    recipe = read_recipe("coco", [*ours, *words])
    refuse_other_pixels(recipe, with_network_of(recipe, read_recipe("coco", theirs), words), seen=seen)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs", "sentence"),
    [
        (
            DEEP,
            (),
            r"trained with data\.levels=full, but .* data\.levels=fixed data\.level_range=\[\[0\.0, 900\.0\]\], by",
        ),
        (
            DEEP,
            ("data.levels=fixed", "data.level_range=[[0, 65535]]"),
            r"trained with .*65535\.0\]\], but .*900\.0\]\], by",
        ),
        (DEEP, ("data.levels=percentiles",), r"trained with data\.levels=percentiles, but .*data\.levels=fixed"),
        (("data.levels=percentiles",), DEEP, r"trained with data\.levels=fixed .* data\.levels=percentiles, by"),
        (BANDS, (), r"trained on images of 3 bands, but these have 5 \(data\.mean\); begin without weights"),
        (("data.mean=[7]", "data.std=[9]"), BANDS, r"trained on images of 5 bands, but these have 1"),
    ],
)
def test_weights_that_read_numbers_otherwise_than_a_recipe_are_refused(ours, theirs, sentence, seen):
    with pytest.raises(ValueError, match=sentence):
        adopt(ours, theirs, seen=seen)


def test_a_recipe_that_says_nothing_of_levels_takes_those_of_weights_but_images_that_were_seen_do_not():
    adopt((), DEEP, seen=False)
    adopt((), BANDS, seen=False)
    with pytest.raises(ValueError, match=r"but the images need data\.levels=full"):
        adopt((), DEEP, seen=True)


def test_levels_that_a_person_gives_and_ranges_that_are_nearly_alike_are_taken():
    adopt((), (), DEEP, seen=True)
    adopt(DEEP, ("data.levels=fixed", "data.level_range=[[50, 1000]]"), seen=True)
    adopt((*DEEP, *BANDS), ("data.levels=fixed", f"data.level_range={[[10, 800]] * 5}", *BANDS), seen=True)
