"""Roles of settings: each declares one, and what may be adopted, resumed and exported follows from it."""

import pytest
from msgspec.structs import replace

from maskrcnn import config
from maskrcnn.config import Recipe, Role, Settings
from maskrcnn.recipes.adopt import with_network_of
from maskrcnn.recipes.describe import all_settings
from maskrcnn.recipes.renamed import RENAMED
from maskrcnn.recipes.roles import roles_of, settings_with


def test_every_setting_has_a_role_and_every_role_is_used():
    roles = roles_of(Recipe)
    assert tuple(roles) == all_settings()
    assert set(roles.values()) == set(Role)


def test_a_setting_without_a_role_is_refused_with_its_path():
    class Head(Settings):
        width: config.Network[int] = 4
        depth: int = 2

    class Whole(Settings):
        head: Head = Head()

    with pytest.raises(TypeError, match=r"the setting head\.depth declares no role; write its type as Learning\[...\]"):
        roles_of(Whole)


def test_what_travels_with_weights_is_the_network_and_how_it_computes():
    travels = settings_with(Role.NETWORK, Role.NORM, Role.CONVENTION)
    assert {"model.backbone.kind", "model.head_norm", "model.rpn.anchor_sizes", "data.mean"} <= travels
    assert travels.isdisjoint(
        {"data.short_sides", "model.backbone.pretrained", "model.box_head.score_threshold", "train.batch", "classes"}
    )


def test_weights_bring_their_settings_and_leave_the_recipe_its_own():
    backbone = replace(Recipe().model.backbone, kind="resnet18", frozen_stages=1)
    theirs = Recipe(model=config.Model(backbone=backbone, box_head=config.BoxHead(num_detections=7)))
    mixed = with_network_of(Recipe(), theirs)
    assert (mixed.model.backbone.kind, mixed.model.backbone.frozen_stages) == ("resnet18", 2)
    assert mixed.model.box_head.num_detections == 100


def test_former_names_lead_to_settings_of_today():
    assert set(RENAMED.values()) <= set(all_settings())
    assert set(RENAMED).isdisjoint(all_settings())
