"""Names of classes that no line of a file holds, in every format."""

import pytest

from maskrcnn.config import Data
from maskrcnn.data.convert import convert_data
from maskrcnn.data.formats.known import FORMATS
from tests.data.formats.raster_data import read_all

NAMES = ["x\ny", "a/b", "日本語", "{}", " x  y", "ok", "n" * 300, "\u2028", "x y"]
TOLD = ["x y 2", "a/b", "日本語", "{}", "x y 3", "ok", "n" * 300, "class 8", "x y"]


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ("coco", "cityscapes")])
def test_each_object_keeps_its_class_whatever_its_name_is(form, write_split, annotate, tmp_path, tmp_path_factory):
    categories = [{"id": id, "name": name} for id, name in enumerate(NAMES, 1)]
    rows = [_square(annotate, id) for id in range(1, len(NAMES) + 1)]
    file, folder = write_split(rows, categories=categories)
    settings = Data(
        dataset_dir=str(tmp_path), train_img_dir=folder.name, train_anno_path=file.name, val_anno_path="", format="coco"
    )
    written = tmp_path_factory.mktemp("written")
    lines = list(convert_data(settings, form, written))
    assert (
        "lost: 3 classes get another name, without line breaks, blanks in a row and blanks at the ends: "
        r"'x\ny' becomes 'x y 2', ' x  y' becomes 'x y 3', '\u2028' becomes 'class 8'"
    ) in lines
    (data,) = read_all(FORMATS[form], written).values()
    left = {name: int(box[0]) // 6 for name, box in zip(_names(data), data.boxes.tolist(), strict=True)}
    assert left == {name: number for number, name in enumerate(TOLD)}


def _square(annotate, id):
    x = 6 * (id - 1)
    ring = [x, 5, x + 4, 5, x + 4, 9, x, 9]
    return annotate(id, category_id=id, bbox=[x, 5, 4, 4], area=16, segmentation=[ring])


def _names(data):
    return [data.category_names[label - 1] for label in data.labels]
