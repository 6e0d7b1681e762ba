import pytest
from msgspec.structs import replace

from maskrcnn.config import Backbone, Model, Recipe
from maskrcnn.models.mask_rcnn import head_norm
from maskrcnn.recipes.adopt import with_live_norm


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
