"""Objects that have a box and no outline are the same objects in every format that has a place for boxes."""

import pytest

from maskrcnn.config import Data
from maskrcnn.data.convert import convert_data
from maskrcnn.data.dataset import Flag
from maskrcnn.data.formats.known import FORMATS
from tests.data.formats.raster_data import read_all


@pytest.mark.parametrize("form", ["coco", "lvis", "yolo", "labelme", "cvat", "via"])
def test_a_box_without_an_outline_comes_back(form, write_split, annotate, tmp_path, tmp_path_factory):
    box = [40.5, 5.25, 15, 16.5]
    file, folder = write_split([annotate(1, segmentation=[], bbox=box), annotate(2)])
    settings = Data(dataset_dir=str(tmp_path), train_img_dir=folder.name, train_anno_path=file.name, format="coco")
    dest = tmp_path_factory.mktemp("copy")
    lines = list(convert_data(settings, form, dest))
    assert "note: 1 object has a box and no outline; its box stands in for it, first annotation 1" in lines
    (data,) = read_all(FORMATS[form], dest).values()
    assert data.boxes_xywh().round(9).tolist() == [box, [10, 5, 20, 20]]
    assert [bool(flags & Flag.NO_OUTLINE) for flags in data.flags.tolist()] == [True, False]
