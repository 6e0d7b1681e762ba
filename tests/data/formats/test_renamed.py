"""Formats that call images otherwise say so, with an example."""

import pytest

from maskrcnn.data.formats.known import FORMATS
from tests.data.formats.raster_data import draw_data

RENAMED = {
    "voc": "3 images get another name: a.png becomes val_a.png",
    "cityscapes": "6 images get another name: a.png becomes city/a_leftImg8bit.png",
    "dsb2018": "2 images get another name: b/c.jpg becomes b_c/images/b_c.jpg",
}


@pytest.mark.parametrize("form", FORMATS)
def test_other_names_are_told(form, tmp_path):
    splits = {part: draw_data(tmp_path / part) for part in ("train", "val")}
    told = [one for one in FORMATS[form].write(splits, tmp_path / "dest") if "another name" in one]
    assert told == ([RENAMED[form]] if form in RENAMED else [])


def test_names_that_are_taken_are_told(tmp_path):
    data = draw_data(tmp_path / "data", names=("a.png", "b/c.jpg", "a.jpg"))
    told = FORMATS["yolo"].write({"": data}, tmp_path / "dest")
    assert "1 image gets another name: a.jpg becomes a-2.jpg" in told
