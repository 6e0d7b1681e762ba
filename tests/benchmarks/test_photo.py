"""The benchmark of one photo runs, and its ways find the same."""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from maskrcnn.runtime import precision


@pytest.mark.parametrize(("recipe", "has_peer"), [("nuclei", True), ("demo", False)])
def test_each_way_predicts_in_a_process_of_its_own(benchmark, tmp_path, recipe, has_peer, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 160, 3), np.uint8)).save(photo)
    section = benchmark.run(photo, recipe, repeats=1, rounds=1)
    peers = ["torchvision", "torchvision, channels_last"] if has_peer and find_spec("torchvision") else []
    assert [row["way"] for row in section.rows] == ["ours", *peers]
    for row in section.rows:
        assert all(value > 0 for name, value in row.items() if name != "way")
    counts = {word for word in section.notes[0].split() if word.isdigit()}
    assert counts
    assert "0" not in counts
    assert ("torchvision" in section.notes[-1]) == (not peers)


def test_bf16_is_measured_where_the_processor_has_it(benchmark):
    theirs = ["torchvision", "torchvision, channels_last", "torchvision, channels_last, bf16"]
    assert benchmark.ways(has_peer=True, has_bf16=True) == ["ours", "ours, fp32", "ours, bf16", *theirs]
    assert benchmark.ways(has_peer=True, has_bf16=False) == ["ours", *theirs[:2]]
    assert benchmark.ways(has_peer=False, has_bf16=True) == ["ours", "ours, fp32", "ours, bf16"]


def test_ratios_are_of_the_best_predictions(benchmark):
    runs = {
        "ours": [{"import": 2.0, "first": 5.0, "later": later} for later in ([1.0, 9.0], [2.0, 8.0])],
        "torchvision": [{"import": 3.0, "first": 9.0, "later": [4.0, 6.0]}],
        "torchvision, channels_last": [{"import": 3.0, "first": 9.0, "later": [5.0, 2.0]}],
    }
    ours, eager, other = benchmark.table(runs)
    assert (ours["best, s"], ours["median, s"], ours["first result after it, s"]) == (1.0, 5.0, 3.0)
    ratios = [(row["of torchvision's"], row["of its best way"]) for row in (ours, eager, other)]
    assert ratios == [(0.25, 0.5), (1.0, 2.0), (0.5, 1.0)]
    assert "of its best way" not in benchmark.table({"ours": runs["ours"]})[0]


def test_scores_are_compared_where_as_many_objects_were_found(benchmark):
    runs = {
        "ours": [{"scores": [0.5, 0.25]}],
        "ours, bf16": [{"scores": [0.5]}],
        "torchvision": [{"scores": [0.5, 0.5]}],
    }
    assert benchmark.notes(runs) == [
        "objects: 2 by ours, 1 by ours, bf16, 2 by torchvision",
        "scores by ours differ from torchvision's by 0.25 at most",
    ]
