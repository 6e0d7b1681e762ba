import numpy as np
import pytest

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import dsb2018, instances
from maskrcnn.data.formats.source import Folder
from tests.data.formats.raster_data import draw_data, draw_ids, pixels_of, put_image, put_mask, read_all


def put_entry(root, id, ids):
    put_image(root / id / "images" / f"{id}.png")
    for number in sorted(set(np.unique(ids).tolist()) - {0}):
        put_mask(root / id / "masks" / f"{number:064x}.png", (ids == number) * 255)


def test_each_mask_is_an_object_pixel_by_pixel(tmp_path):
    put_entry(tmp_path / "stage1_train", "0a7e", draw_ids())
    put_entry(tmp_path / "stage1_train", "0b84", draw_ids() * (draw_ids() > 1))
    (source,) = dsb2018.find(Folder(tmp_path))
    assert (source.part, source.labels) == ("train", tmp_path / "stage1_train")
    faults = Faults()
    data = dsb2018.read(source, faults)
    assert (list(faults), data.category_names) == ([], ("object",))
    assert data.file_names == ["0a7e/images/0a7e.png", "0b84/images/0b84.png"]
    masks = pixels_of(data)
    expected = [("object", (draw_ids() == id).tobytes()) for id in (1, 2, 3)]
    assert masks["0a7e/images/0a7e.png"] == sorted(expected)
    assert masks["0b84/images/0b84.png"] == sorted(expected[1:])


def test_masks_that_overlap_both_stay(tmp_path):
    put_entry(tmp_path, "a", draw_ids() == 1)
    put_mask(tmp_path / "a/masks/over.png", draw_ids() >= 1)
    (source,) = dsb2018.find(Folder(tmp_path))
    assert len(dsb2018.read(source, Faults()).labels) == 2


@pytest.mark.parametrize("others", [(), ("b.png", "c.png")])
def test_masks_beside_no_image_or_several_are_refused(tmp_path, others):
    put_entry(tmp_path, "a", draw_ids())
    put_mask(tmp_path / "b/masks/cell/1.png", draw_ids() == 1)
    for name in others:
        put_image(tmp_path / "b/images" / name)
    (source,) = dsb2018.find(Folder(tmp_path))
    faults = Faults()
    assert len(dsb2018.read(source, faults).image_ids) == 1
    [fault] = faults
    assert (fault.kind, fault.examples) == (dsb2018.NOT_ONE_IMAGE, ["b"])
    assert f"found {', '.join(others) or 'none'};" in fault.sentence


def test_empty_masks_are_left_out_and_those_of_another_size_refused(tmp_path):
    put_entry(tmp_path, "a", draw_ids())
    put_entry(tmp_path, "b", draw_ids())
    put_mask(tmp_path / "a/masks/empty.png", np.zeros((20, 30)))
    put_mask(tmp_path / "b/masks/small.png", np.ones((10, 30)))
    (source,) = dsb2018.find(Folder(tmp_path))
    faults = Faults()
    data = dsb2018.read(source, faults)
    assert (data.file_names, len(data.labels)) == (["a/images/a.png"], 3)
    assert [fault.kind.name for fault in faults] == ["mask-size", "object-mask-empty"]


def test_one_mask_for_an_image_is_another_format(tmp_path):
    for id in ("a", "b"):
        put_image(tmp_path / id / "images/1.png")
        put_mask(tmp_path / id / "masks/1.png", draw_ids())
    assert dsb2018.find(Folder(tmp_path)) == []
    put_entry(tmp_path / "dsb", "a", draw_ids())
    assert instances.find(Folder(tmp_path / "dsb")) == []


@pytest.mark.parametrize("classes", [("nucleus",), ("cat", "dog"), ("masks", "train")])
def test_what_is_written_is_read_again(classes, tmp_path):
    data = draw_data(tmp_path / "from", classes)
    (told,) = dsb2018.write({"train": data, "val": data}, tmp_path / "to")
    assert "another name" in told
    back = read_all(dsb2018, tmp_path / "to")
    assert {one.category_names for one in back.values()} == {classes}
    names = {"a.png": "a/images/a.png", "b/c.jpg": "b_c/images/b_c.jpg", "d.png": "d/images/d.png"}
    expected = {names[name]: masks for name, masks in pixels_of(data).items()}
    assert list(back) == ["train", "val"]
    assert pixels_of(back["val"]) == expected
