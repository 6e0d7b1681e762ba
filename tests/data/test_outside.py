"""Annotations may not choose what is read of a machine: images outside the data set need `data.outside`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Data
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco
from maskrcnn.data.split import open_split, read_part


def folder(tmp_path, *names, sized=True):
    """A data set whose one image lies in `train2017/`, and which names these; another image lies beside it."""
    root = tmp_path / "set"
    for place in ("train2017", "annotations"):
        (root / place).mkdir(parents=True)
    for path in (root / "train2017/a.png", tmp_path / "secret.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    size = {"height": 20, "width": 30} if sized else {}
    content = {
        "images": [{"id": number, "file_name": name, **size} for number, name in enumerate(names, 1)],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return root


def read(root, **settings):
    named = {"val_img_dir": "train2017", "val_anno_path": "annotations/instances_train2017.json"}
    return open_split(Data(dataset_dir=str(root), **named, **settings), "train")


@pytest.mark.parametrize(
    "name", ["../../secret.png", "{}/secret.png", "..\\..\\secret.png", "../train2017/../../secret.png"]
)
def test_an_image_outside_is_not_read_unasked(tmp_path, name):
    root = folder(tmp_path, "a.png", name.format(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError)) as told:
        read(root)
    if "\\" not in name:
        assert "lies outside the data set (1 of 2 images do)" in str(told.value)
        assert "data.outside=true" in str(told.value)
    data = read(root, outside=True)
    assert Path(os.path.normpath(data.images / data.file_names[1])) == tmp_path / "secret.png"


def test_the_size_of_an_image_outside_is_not_looked_up(tmp_path):
    root = folder(tmp_path, "a.png", "../../secret.png", sized=False)
    with pytest.raises(ValueError, match="lies outside the data set and is not looked at"):
        read(root)


@pytest.mark.parametrize("name", ["../train2017/a.png", "../annotations/../train2017/a.png", "{}/set/train2017/a.png"])
def test_names_that_lead_back_into_the_data_set_are_read(tmp_path, name):
    data = read(folder(tmp_path, name.format(tmp_path)))
    assert (data.images / data.file_names[0]).samefile(tmp_path / "set/train2017/a.png")


@pytest.mark.parametrize(
    "name", ["/home/someone/else/a.png", "C:\\pictures\\a.png", "http://host/data/local-files/?d=x/a.png"]
)
def test_names_of_another_machine_are_looked_up_by_their_ends(tmp_path, name):
    assert list(read(folder(tmp_path, name)).file_names) == ["a.png"]


def test_a_link_inside_the_data_set_leads_where_its_owner_wants(tmp_path):
    root = folder(tmp_path, "link.png")
    (root / "train2017/link.png").symlink_to(tmp_path / "secret.png")
    assert list(read(root).file_names) == ["link.png"]


def test_who_checks_data_is_told_and_the_image_left_out(tmp_path):
    root, faults = folder(tmp_path, "a.png", "../../secret.png"), Faults()
    data = read_part(Data(dataset_dir=str(root), val_img_dir="train2017"), "train", faults)
    assert list(data.file_names) == ["a.png"]
    assert [fault.kind.name for fault in faults] == ["image-outside"]


def test_a_reader_without_a_recipe_keeps_to_the_data_set_too(tmp_path):
    root = folder(tmp_path, "a.png", "../../secret.png")
    with pytest.raises(ValueError, match="lies outside"):
        coco.read(root / "annotations/instances_train2017.json", root / "train2017")


def test_a_pipe_for_annotations_is_refused(tmp_path):
    root = folder(tmp_path, "a.png")
    path = root / "annotations/instances_train2017.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a pipe, a socket or a device"):
        read(root)
