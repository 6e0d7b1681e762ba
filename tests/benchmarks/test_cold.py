"""The benchmark of the first prediction runs in tiny form."""

from PIL import Image


def test_a_cold_process_takes_longer_than_a_warm_one(benchmark, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (48, 32), (90, 60, 30)).save(photo)
    section = benchmark.run(photo, "demo", "fp32", rounds=1)
    cold, warm = section.rows
    assert cold["beyond, s"] > warm["beyond, s"] > 0
    assert cold["later ones, s"] > 0
