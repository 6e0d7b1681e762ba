"""Recipes that others published: their numbers, and what follows from them before the first step."""

import numpy as np
import pytest
import torch

from maskrcnn.data import buckets
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes import read_recipe, recipe_folder
from maskrcnn.train.optimizer import build_optimizer
from maskrcnn.train.schedule import Place, base_rate, learning_rate

NAMES = ("lsj", "lsj_copy_paste", "rsb", "v2")
SIZE = (480, 640)
NUM = 4000


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_recipe_says_what_it_reaches_where_it_comes_from_and_what_was_checked(name):
    head = (recipe_folder() / f"{name}.yml").read_text(encoding="utf-8").partition("__BASE__")[0].replace("\n#", "")
    assert "box AP" in head
    assert "mask AP" in head
    assert "Checked here:" in head
    assert "Other than there:" in head


@pytest.fixture(scope="module")
def views():
    """What `lsj` shows of many images of one size."""
    data = read_recipe("lsj").data
    samples = buckets.whole_images(np.tile(np.array([SIZE]), (NUM, 1)))
    steps = buckets.plan_epoch(samples, data, [(1024, 1024)], batch=NUM, seed=3, epoch=0)
    return steps[0].view


def detectron2_shows():
    """Scale, and place of the window's corner, of ResizeScale(0.1, 2, 1024) and FixedSizeCrop(1024), told in numpy."""
    source = np.random.default_rng(0)
    scale = min(1024 / SIZE[0], 1024 / SIZE[1]) * source.uniform(0.1, 2.0, NUM)
    too_much = np.maximum(np.outer(scale, SIZE) - 1024, 0)
    return scale, too_much * source.uniform(0.0, 1.0, (NUM, 2)) / scale[:, None]


def test_scales_and_crops_are_distributed_as_detectron2s(views):
    scale, corner = detectron2_shows()
    windows = views.windows.numpy().astype(float)
    ours = 1024 / (windows[:, 2:] - windows[:, :2])
    assert (views.sizes == 1024).all()
    np.testing.assert_allclose(ours[:, 0], ours[:, 1], rtol=1e-4)
    shares = np.linspace(0.02, 0.98, 25)
    compared = (ours[:, 0], scale, 3.0), (windows[:, 1], corner[:, 0], 240), (windows[:, 0], corner[:, 1], 320)
    for found, expected, span in compared:
        distance = np.abs(np.quantile(found, shares) - np.quantile(expected, shares))
        assert distance.max() < 0.03 * span
    assert 0.47 < views.mirrored.float().mean() < 0.53


def decays(name):
    """Weight decay of each trained parameter."""
    recipe = read_recipe(name)
    with torch.device("meta"):
        model = build(recipe.model, 80)
    groups = build_optimizer(model, recipe.train.optimizer).param_groups
    found = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    return {key: found.get(id(parameter)) for key, parameter in model.named_parameters()}


def test_rsb_trains_scales_and_shifts_without_decay_and_leaves_stem_and_first_stage_alone():
    """As MMDetection's `norm_decay_mult=0`, `norm_eval=True` and `frozen_stages=1`: biases of layers do decay."""
    found = decays("rsb")
    assert {key.split(".")[1] for key, decay in found.items() if decay is None} == {"stem", "res2"}
    trained = {key: decay for key, decay in found.items() if decay is not None}
    assert {decay for key, decay in trained.items() if ".norm." in key} == {0.0}
    assert {decay for key, decay in trained.items() if ".norm." not in key} == {0.05}
    assert "backbone.res5.2.conv3.norm.bias" in trained
    assert trained["mask_head.masks.bias"] == 0.05


def test_v2_decays_every_parameter_alike_as_torchvision_does():
    assert set(decays("v2").values()) == {4e-5}


@pytest.mark.parametrize(
    ("name", "steps_per_epoch", "rates"),
    [
        ("lsj", 1844, {0: 0.0067, 250: 0.05335, 500: 0.1, 163889: 0.1, 164117: 0.01, 177546: 0.001}),
        ("v2", 1833, {0: 1e-4, 1000: 0.1, 352 * 1833 - 1: 0.1, 352 * 1833: 0.01, 384 * 1833: 0.001}),
        ("rsb", 7330, {0: 2e-7, 500: 2e-4, 8 * 7330: 2e-5, 11 * 7330: 2e-6}),
        ("lsj_copy_paste", 463, {0: 0.0032, 1000: 0.32, 243000: 0.32, 243600: 0.032, 263920: 0.00032}),
    ],
)
def test_the_rate_is_the_published_one(name, steps_per_epoch, rates):
    train = read_recipe(name).train
    for step, rate in rates.items():
        place = Place(step, step / steps_per_epoch, step / (train.epochs * steps_per_epoch))
        found = learning_rate(place, train.schedule, base_rate(train.optimizer, train.batch))
        assert found == pytest.approx(rate, rel=1e-3), step
