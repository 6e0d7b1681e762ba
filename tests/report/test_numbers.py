"""Data sets in numbers: a page, a table, JSON."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco
from maskrcnn.data.statistics import statistics
from maskrcnn.report.charts import bar_chart
from maskrcnn.report.numbers import as_json, as_table, between, binned, sample_colours, write_page

from .test_page import Balanced


@pytest.fixture
def data(tmp_path) -> Dataset:
    """A red image of 40 x 60 pixels with two cups, one on the other, and a black one of 30 x 30."""
    Image.new("RGB", (60, 40), (200, 0, 10)).save(tmp_path / "1.png")
    Image.new("RGB", (30, 30)).save(tmp_path / "2.png")
    rows = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [x, 0, 25, 36], "iscrowd": 0, "area": 900}
        | {"segmentation": [[x, 0, x + 25, 0, x + 25, 36, x, 36]]}
        for number, x in ((1, 0), (2, 5))
    ]
    images = [
        {"id": 1, "file_name": "1.png", "height": 40, "width": 60},
        {"id": 2, "file_name": "2.png", "height": 30, "width": 30},
    ]
    categories = [{"id": 1, "name": "<b>cup"}, {"id": 2, "name": "cat"}]
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return coco.read(tmp_path / "all.json", tmp_path)


def test_a_page_is_valid_and_has_every_chart(data, tmp_path):
    told = statistics(data, sample_colours(data, 64)[0])
    page = write_page({"train": told, "val": told}, tmp_path / "out", title="<i>my", sample=64).read_text("utf-8")
    parser = Balanced()
    parser.feed(page)
    assert (parser.open, parser.loaded) == ([], [])
    assert not re.search(r"https?://|url\(|@import|<b>cup|<i>my|<script", page)
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 6 + 2
    for picture in pictures:
        ElementTree.fromstring(picture)
    for text in ("Objects per image", "Crowding", "&lt;b&gt;cup", "60 \u00d7 40", "val: objects", "deviation"):
        assert text in page


def test_a_split_without_anything_has_a_page_too(data, tmp_path):
    image = {"id": 1, "file_name": "absent.png", "height": 4, "width": 6}
    empty = coco.parse({"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]})
    told = statistics(empty, sample_colours(empty, 64)[0])
    page = write_page({"train": told}, tmp_path, title="empty", sample=64).read_text("utf-8")
    assert page.count("<svg") == 3  # objects per image, sizes and shapes of images
    json.dumps(as_json(told), allow_nan=False)
    assert ["object side, pixels", "-"] in as_table({"train": told})


def test_the_table_says_what_is_in_a_split(data):
    told = statistics(data, sample_colours(data, 64)[0])
    rows = dict(as_table({"train": told}))
    assert (rows["images"], rows["without objects"], rows["image width"]) == ("2", "1", "45 (30 to 60)")
    assert (rows["objects"], rows["objects per image"], rows["object side, pixels"]) == ("2", "1 (0 to 2)", "30")
    assert rows["small / medium / large"] == "100 / 0 / 0 %"
    assert rows["box IoU > 0.5 in class"] == "100 %"
    assert (rows["classes with objects"], rows["rarest to most frequent"]) == ("1 of 2", "-")
    assert rows["mean of red, green, blue"] == "145.5, 0.0, 7.3"  # 2400 of 3300 pixels are red


def test_json_has_the_numbers(data):
    told = as_json(statistics(data, sample_colours(data, 64)[0]))
    json.dumps(told, allow_nan=False)
    assert told["image_sizes"][0] == {"width": 60, "height": 40, "images": 1}
    assert told["object_sizes"] == {"small": 2, "medium": 0, "large": 0}
    assert told["overlap"] == {"any": 1, "near": 1, "near_in_class": 1}
    cup, cat = told["classes"]
    assert (cup["objects"], cup["images"], cup["median_side"]) == (2, 1, 30)
    assert (cat["objects"], cat["median_side"]) == (0, None)
    assert (told["colours"]["red"]["largest"], told["colours"]["blue"]["largest"]) == (200, 10)


def test_images_whose_colours_cannot_be_read_are_told_of(data, tmp_path):
    (tmp_path / "1.png").unlink()
    counts, [failure] = sample_colours(data, 2)
    assert counts[:, 0].tolist() == [900, 900, 900]
    assert failure.startswith(f"the image {tmp_path}/1.png does not exist")
    assert sample_colours(data, 0)[0].shape == (0, 256)


def test_values_fall_between_bounds():
    assert binned(np.array([0, 1, 2, 5, 9]), (2, 5)) == [40, 20, 40]
    assert binned(np.zeros(0), (2, 5)) == [0, 0, 0]
    assert between((2, 5)) == ["<2", "2-5", "≥5"]


def test_bars_are_as_high_as_their_numbers():
    chart = str(bar_chart(["a", "<b>"], [("train", [10, 0]), ("val", [20, 5])], x_label="x", y_label="y"))
    bars = re.findall(r'<rect class="c(\d)" x="[\d.]+" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', chart)
    heights = [(int(color), float(height)) for color, _, _, height in bars]
    whole = heights[2][1]
    assert heights == [
        (0, pytest.approx(whole / 2, abs=0.1)),
        (0, 0),
        (1, whole),
        (1, pytest.approx(whole / 4, abs=0.1)),
    ]
    assert all(float(top) + float(height) == pytest.approx(220 - 44, abs=0.1) for _, top, _, height in bars)
    assert "&lt;b&gt;" in chart
    assert "val: 20 (a)" in chart
    assert bar_chart(["a"], [("train", [0])], x_label="x", y_label="y") == ""
