"""Published recipes take a step, at a size that a test has time for."""

import json
import math

import pytest

from maskrcnn.data.shapes import generate
from maskrcnn.recipes import read_recipe
from maskrcnn.train import loop
from maskrcnn.weights import load_weights

SMALL = (
    *("data.num_workers=0", "train.batch=4", "train.max_steps=1", "train.log_every=1", "train.evaluate_every=0"),
    *(
        "model.backbone.pretrained=",
        "model.backbone.frozen_stages=0",
        "model.backbone.width=8",
        "model.neck.channels=16",
    ),
    *("data.max_side=128", "model.rpn.anchor_sizes=[8,16,32,64,128]", "model.rpn.num_train_candidates=64"),
    *("model.rpn.num_train_proposals=32", "model.box_head.hidden=32", "model.mask_head.channels=16"),
    "device=cpu",
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=0, seed=3, side=64)


@pytest.mark.parametrize("name", ["lsj", "lsj_copy_paste", "rsb", "v2"])
def test_a_published_recipe_takes_a_step(shapes, tmp_path, name):
    side = 128 if read_recipe(name).data.fit == "box" else 64
    recipe = read_recipe(name, [*SMALL, f"data.dataset_dir={shapes}", f"data.short_sides=[{side}]"])
    run = loop.run(recipe, tmp_path / "run")
    [row] = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"rpn/objectness", "rpn/box", "box_head/class", "box_head/box", "mask_head/mask"} <= set(row["losses"])
    assert all(math.isfinite(loss) for loss in row["losses"].values())
    assert load_weights(run).recipe.name == name
