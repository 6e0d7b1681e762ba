"""The benchmark of mask edges learns and scores three heads on one network."""

from pathlib import Path

from maskrcnn.data.shapes import generate
from maskrcnn.recipes import read_recipe

TINY = Path(__file__).parents[1] / "tiny.yml"


def test_three_heads_are_learnt_side_by_side_and_scored_in_two_ways(benchmark, tmp_path):
    generate(tmp_path / "shapes", num_train=2, num_val=1, side=64)
    recipe = read_recipe(TINY, [f"data.dataset_dir={tmp_path / 'shapes'}", "train.batch=2"])
    found = benchmark.compare(recipe, None, 1)
    heads = ("as the recipe", "pool_size=28", "point_head")
    assert list(found) == [f"{head}, {way}" for head in heads for way in ("probabilities", "logits")]
    for row in found.values():
        assert 0 <= row["boundary AP"] <= row["mask AP"] <= 1
        assert row["ms"] > 0
