"""The benchmark of the first prediction runs in tiny form."""

import pytest
from PIL import Image

AS_LONG_AS_IT_SAYS = """
import json, os, sys
from pathlib import Path
kernels = Path(os.environ["MASKRCNN_CACHE"], "kernels")
first = 1.0 if kernels.exists() else 2.0
kernels.mkdir(exist_ok=True)
print(json.dumps({"first": first, "later": 0.5 * Path(sys.argv[1]).is_dir() * Path(sys.argv[2]).is_file()}))
"""
"""Stands in for a prediction that compiles where nothing is kept."""


@pytest.fixture
def photo(tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (48, 32), (90, 60, 30)).save(photo)
    return photo


def test_each_round_has_an_empty_cache_for_its_first_process(benchmark, photo, monkeypatch):
    monkeypatch.setattr(benchmark, "PREDICT", AS_LONG_AS_IT_SAYS)
    cold, warm = benchmark.run(photo, "demo", "fp32", rounds=2).rows
    assert list(cold.values()) == ["cold", 2.0, 0.5, 1.5]
    assert list(warm.values()) == ["warm", 1.0, 0.5, 0.5]


@pytest.mark.exhaustive
def test_a_cold_process_takes_longer_than_a_warm_one(benchmark, photo):
    section = benchmark.run(photo, "demo", "fp32", rounds=1)
    cold, warm = section.rows
    assert cold["beyond, s"] > warm["beyond, s"] > 0
    assert cold["later ones, s"] > 0
