"""No format of pixels takes another's files for its own, and what is recognised is what was written."""

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import kept
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.recognise import recognise
from tests.data.formats.raster_data import draw_data, draw_ids, pixels_of, put_image, put_mask

NAMES = ("coco", "lvis", "voc", "cityscapes", "dsb2018", "instances")


def written(name, root, parts=("train", "val")):
    """A data set of a format, with classes that all have."""
    data = draw_data(root.with_name(f"{root.name}-from"), ("car", "person"))
    FORMATS[name].write(dict.fromkeys(parts, data), root)
    return data


@pytest.mark.parametrize("name", NAMES)
def test_only_its_own_format_finds_a_data_set(name, tmp_path):
    data = written(name, tmp_path / "set")
    found = {other: [one.part for one in form.find(Folder(tmp_path))] for other, form in FORMATS.items()}
    assert {other: parts for other, parts in found.items() if parts} == {name: ["train", "val"]}
    source = recognise(tmp_path).sources[0]
    back = FORMATS[name].read(source, Faults())
    assert sorted(pixels_of(back).values()) == sorted(pixels_of(data).values())


@pytest.mark.parametrize("inner", NAMES)
@pytest.mark.parametrize("outer", ["coco", "voc", "instances"])
def test_an_export_inside_an_export_is_passed_over(outer, inner, tmp_path):
    written(outer, tmp_path / "set")
    written(inner, tmp_path / "set/backup/old/export")
    found = recognise(tmp_path / "set")
    assert (found.format, [one.part for one in found.sources]) == (outer, ["train", "val"])
    assert not any("backup" in one.labels.parts for one in found.sources)
    assert len(found.passed_over) == 1


def test_of_two_formats_in_one_folder_each_can_be_asked_for(tmp_path):
    for name in ("coco", "voc"):
        written(name, tmp_path)
    assert {name: recognise(tmp_path, name).format for name in ("coco", "voc")} == {"coco": "coco", "voc": "voc"}
    assert len(recognise(tmp_path).passed_over) == 1


@pytest.mark.parametrize("name", ["cityscapes", "dsb2018", "instances", "voc", "lvis"])
def test_no_image_is_lost_where_names_are_made_alike(name, tmp_path):
    data = draw_data(tmp_path / "from", ("car", "person"), ("a/b.png", "a_b.jpg", "a/b.jpg"))
    FORMATS[name].write({"train": data, "val": data}, tmp_path / "to")
    for source in recognise(tmp_path / "to").sources:
        back = FORMATS[name].read(source, Faults())
        assert sorted(pixels_of(back).values()) == sorted(pixels_of(data).values())


@pytest.mark.parametrize("masks", ["masks", "train2017_masks", "annotations/masks"])
def test_masks_beside_a_coco_file_do_not_take_its_place(masks, tmp_path):
    written("coco", tmp_path)
    for name in ("a", "b/c", "d"):
        put_mask(tmp_path / masks / f"{name}.png", draw_ids())
    assert recognise(tmp_path).format == "coco"


def test_images_alone_are_no_data_set(tmp_path):
    for name in ("images/a.png", "images/b.jpg", "more/a.png"):
        put_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="3 of them images, but no annotations of any format"):
        recognise(tmp_path)


@pytest.mark.parametrize("name", ["voc", "cityscapes", "dsb2018", "instances"])
def test_what_was_kept_is_read_again(name, tmp_path, new_cache, monkeypatch):
    monkeypatch.setattr(kept, "FEW", 0)
    monkeypatch.setattr(kept, "SETTLED", -1.0)
    written(name, tmp_path / "set")
    next((tmp_path / "set").rglob("a*.png")).write_bytes(b"")
    source = recognise(tmp_path / "set").sources[0]
    faults = [Faults(), Faults()]
    first, second = (FORMATS[name].read(source, one) for one in faults)
    assert pixels_of(first) == pixels_of(second)
    told = [[str(fault) for fault in one] for one in faults]
    assert (told[0], len(told[0])) == (told[1], 1)
    assert len(list((new_cache / "annotations").glob("*.columns"))) == 1


def test_polygons_are_written_as_the_pixels_whose_centres_they_hold(tmp_path):
    data = draw_data(tmp_path / "from", ("car", "person"))
    points = data.rings.points + np.float32(0.3)
    data = replace(data, rings=data.rings._replace(points=points), flags=np.zeros_like(data.flags))
    for name in ("voc", "dsb2018", "instances"):
        FORMATS[name].write({"train": data}, tmp_path / name)
        back = FORMATS[name].read(recognise(tmp_path / name).sources[0], Faults())
        assert sorted(pixels_of(back).values()) == sorted(pixels_of(data).values())
