"""A run that begins with other weights: classes are known by their names."""

import pytest
import torch
from msgspec.structs import replace

from maskrcnn.config import Backbone, BoxHead, MaskHead, Model, Neck, PointHead, Recipe
from maskrcnn.models.mask_rcnn import build
from maskrcnn.train.initialise import initialise_from
from maskrcnn.weights import Weights

OLD = ("cat", "dog", "bird")
BEGIN = "initialised from old.pth; its network and preprocessing replace the recipe's"


def small(**settings):
    box = BoxHead(hidden=8, class_agnostic=settings.pop("agnostic", False))
    mask = MaskHead(num_convs=1, channels=8)
    return Model(
        backbone=Backbone(kind="resnet18", width=8), neck=Neck(channels=16), box_head=box, mask_head=mask, **settings
    )


def weights(**settings):
    torch.manual_seed(0)
    tensors = build(small(**settings), 3).state_dict()
    return Weights(tensors, Recipe(model=small(**settings), classes=OLD, category_ids=(1, 2, 3)), "old.pth")


def test_the_same_classes_keep_everything():
    begin, model = weights(), build(small(), 3)
    assert initialise_from(model, begin, OLD) == BEGIN
    assert all(torch.equal(tensor, begin.tensors[name]) for name, tensor in model.state_dict().items())


def test_classes_are_kept_by_name_and_new_ones_start_afresh():
    begin, model = weights(), build(small(), 2)
    fresh = model.state_dict()["mask_head.masks.weight"][1].clone()
    sentence = initialise_from(model, begin, ("bird", "fish"))
    assert sentence == f"{BEGIN}; 1 class is kept by name (bird), 1 new (fish)"
    new, old = model.state_dict(), begin.tensors
    assert torch.equal(new["box_head.classes.weight"][:2], old["box_head.classes.weight"][[0, 3]])
    assert torch.equal(new["box_head.deltas.bias"][:4], old["box_head.deltas.bias"][8:])
    assert torch.equal(new["mask_head.masks.weight"][0], old["mask_head.masks.weight"][2])
    assert torch.equal(new["mask_head.masks.weight"][1], fresh)
    assert torch.equal(new["box_head.fcs.0.weight"], old["box_head.fcs.0.weight"])


def test_another_order_of_the_same_classes_is_no_other_network():
    begin, model = weights(), build(small(), 3)
    assert initialise_from(model, begin, OLD[::-1]) == f"{BEGIN}; all 3 classes are kept by name"
    expected = begin.tensors["box_head.classes.bias"][[0, 3, 2, 1]]
    assert torch.equal(model.state_dict()["box_head.classes.bias"], expected)


def test_boxes_that_know_no_classes_are_kept_whole():
    begin, model = weights(agnostic=True), build(small(agnostic=True), 2)
    initialise_from(model, begin, ("bird", "fish"))
    assert torch.equal(model.state_dict()["box_head.deltas.weight"], begin.tensors["box_head.deltas.weight"])


def test_a_mask_for_all_of_one_old_class_is_kept_whole_for_several_new_ones():
    one = Model(
        **{**_fields(small(agnostic=True)), "mask_head": MaskHead(num_convs=1, channels=8, class_agnostic=True)}
    )
    begin = Weights(build(one, 1).state_dict(), Recipe(model=one, classes=("cell",), category_ids=(1,)), "old.pth")
    for classes in (("a", "b", "cell"), ("a", "b")):
        model = build(one, len(classes))
        sentence = initialise_from(model, begin, classes)
        assert "starts afresh" not in sentence
        for name in ("box_head.deltas.weight", "mask_head.masks.weight"):
            assert torch.equal(model.state_dict()[name], begin.tensors[name])


def test_names_that_repeat_meet_each_other_in_order():
    begin, model = weights(), build(small(), 3)
    begin = begin._replace(recipe=Recipe(model=small(), classes=("N/A", "cat", "N/A"), category_ids=(1, 2, 3)))
    initialise_from(model, begin, ("cat", "N/A", "N/A"))
    expected = begin.tensors["mask_head.masks.bias"][[1, 0, 2]]
    assert torch.equal(model.state_dict()["mask_head.masks.bias"], expected)


def test_frozen_statistics_may_come_alive():
    begin, live = (
        weights(),
        Model(**{**_fields(small()), "backbone": replace(small().backbone, norm="batch_norm"), "head_norm": "none"}),
    )
    model = build(live, 3)
    initialise_from(model, begin, OLD)
    assert torch.equal(model.backbone.stem.norm.running_var, begin.tensors["backbone.stem.norm.running_var"])
    assert model.backbone.stem.norm.num_batches_tracked == 0


def test_heads_that_do_not_fit_start_afresh_and_are_named():
    begin, model = weights(), build(Model(**{**_fields(small()), "box_head": BoxHead(hidden=12)}), 3)
    sentence = initialise_from(model, begin, OLD)
    assert (
        "does not fit and starts afresh: box_head.fcs.0, box_head.fcs.1, box_head.classes, box_head.deltas" in sentence
    )
    assert torch.equal(model.state_dict()["rpn.objectness.weight"], begin.tensors["rpn.objectness.weight"])


def test_a_point_head_begins_afresh_on_weights_without_one_and_finer_masks_on_all_their_layers():
    mask, point = MaskHead(num_convs=1, channels=8, pool_size=28), PointHead(enabled=True, channels=8)
    model = build(Model(**{**_fields(small()), "mask_head": mask, "point_head": point}), 3)
    sentence = initialise_from(model, weights(), OLD)
    assert "starts afresh: point_head.features, point_head.layers.0" in sentence
    assert torch.equal(model.state_dict()["mask_head.upsample.weight"], weights().tensors["mask_head.upsample.weight"])


def test_another_backbone_is_refused():
    with pytest.raises(
        ValueError, match=r"old.pth do not fit: backbone.stem.weight is \(16, 3, 7, 7\) here and \(8, 3"
    ):
        initialise_from(
            build(Model(**{**_fields(small()), "backbone": replace(small().backbone, width=16)}), 3), weights(), OLD
        )


def test_images_of_other_bands_than_those_of_the_weights_are_told():
    with pytest.raises(ValueError, match=r"old\.pth do not fit: they were trained on images of 3 bands, but these"):
        initialise_from(build(small(), 3, 5), weights(), OLD)


def _fields(model):
    return {name: getattr(model, name) for name in model.__struct_fields__}
