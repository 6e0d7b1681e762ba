"""The benchmark of one photo runs, and its sides find the same."""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize(("recipe", "has_peer"), [("nuclei", True), ("demo", False)])
def test_each_side_predicts_in_a_process_of_its_own(benchmark, tmp_path, recipe, has_peer):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 160, 3), np.uint8)).save(photo)
    section = benchmark.run(photo, recipe, repeats=1, rounds=1)
    sides = ["ours", "torchvision"] if has_peer and find_spec("torchvision") else ["ours"]
    assert [row["side"] for row in section.rows] == sides
    for row in section.rows:
        assert all(value > 0 for name, value in row.items() if name != "side")
    counts = {word for word in section.notes[0].split() if word.isdigit()}
    assert len(counts) == 1
    assert counts != {"0"}
    assert ("torchvision" in section.notes[-1]) == (sides == ["ours"])


def test_ratios_are_of_medians(benchmark):
    runs = {
        "ours": [{"import": 2.0, "first": 5.0, "later": later} for later in (1.0, 9.0, 2.0)],
        "torchvision": [{"import": 3.0, "first": 9.0, "later": 4.0}],
    }
    ours, other = benchmark.table(runs)
    assert (ours["prediction, s"], ours["of torchvision's"], ours["first result after it, s"]) == (2.0, 0.5, 3.0)
    assert other["of torchvision's"] == 1.0
