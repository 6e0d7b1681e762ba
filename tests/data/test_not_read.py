"""Each file of labels that is passed over is named with its reason, and runs among the data are not looked into."""

import gzip
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Data
from maskrcnn.data.dataset import contents
from maskrcnn.data.decode import read_image
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import labelme
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.not_read import not_read
from maskrcnn.data.recognise import recognise
from maskrcnn.data.split import is_named, read_source

ROW = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 10, 1, 10, 10]]}
IMAGE = {"id": 1, "file_name": "1.png", "height": 20, "width": 30}
COCO = {"images": [IMAGE], "annotations": [ROW], "categories": [{"id": 1, "name": "cat"}]}
LABELME = {"shapes": [{"label": "cat", "points": [[1, 1], [9, 1], [9, 9]]}], "imagePath": "1.png"}
REGION = {
    "shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
    "region_attributes": {"class": "cat"},
}
VIA = {"1.png7": {"filename": "1.png", "size": 7, "regions": [REGION], "file_attributes": {}}}
NOT_READ = {
    "video.xml": ("<annotations><meta/><track id='0' label='cat'/></annotations>", "export `CVAT for images`"),
    "nameless.json": (json.dumps({**COCO, "categories": None}), "it lists no categories"),
    "captions.json": (
        json.dumps({"images": [IMAGE], "annotations": [{"image_id": 1, "caption": "a cat"}]}),
        "it holds captions",
    ),
    "a.json.gz": (gzip.compress(json.dumps(COCO).encode()), "it is packed; unpack it"),
    "more.zip": (b"PK", "it is an archive; unpack it, or give it"),
    "own.json": (json.dumps([{"result": [{"from_name": "a", "to_name": "b"}]}]), "Label Studio's own JSON"),
    "strange.json": ('{"a": 1}', "it is JSON of something else"),
    "strange.xml": ("<a/>", "it is XML of something else"),
    "lines.ndjson": ("{}", "it holds lines of JSON"),
    "1_seg.npy": (b"\x93NUMPY", "save the masks as PNG or TIFF"),
}


def put(root: Path, **files):
    Image.new("RGB", (30, 20)).save(root / "1.png")
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.mark.parametrize("name", NOT_READ)
def test_the_reason_is_told_beside_a_data_set_and_without_one(name, tmp_path):
    content, reason = NOT_READ[name]
    put(tmp_path, **{name: content})
    with pytest.raises(FileNotFoundError, match=rf"not read: {name} \(.*{reason}"):
        recognise(tmp_path)
    put(tmp_path, **{"coco.json": json.dumps(COCO)})
    (told,) = recognise(tmp_path).passed_over
    assert told.startswith(f"not read: {name} (")
    assert reason in told


def test_each_reason_is_told_once_with_the_first_files(tmp_path):
    names = [f"{number:02}.json" for number in range(30)]
    put(tmp_path, **{"coco.json": json.dumps(COCO), **dict.fromkeys(names, "{}"), "a.csv": "b"})
    (told,) = recognise(tmp_path).passed_over
    assert told == (
        "not read: 00.json, 01.json and 18 more (each is JSON of something else), 20.json, 21.json and 8 more (not "
        "looked at), a.csv (it is CSV of something else)"
    )


def test_arrays_that_are_the_images_are_no_files_left_unread(tmp_path):
    row = {**IMAGE, "file_name": "1.npy"}
    put(tmp_path, **{"labels/coco.json": json.dumps({**COCO, "images": [row]})})
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/1.npy", np.zeros((20, 30, 5), np.uint16))
    np.save(tmp_path / "masks.npy", np.zeros((20, 30), np.uint16))
    assert recognise(tmp_path).passed_over == (
        "not read: masks.npy (it holds arrays of Python; save the masks as PNG or TIFF)",
    )


def test_an_archive_in_an_archive_in_an_archive_is_named(tmp_path, new_cache):
    for inner, outer in (("coco.json", "a.zip"), ("a.zip", "b.zip"), ("b.zip", "c.zip")):
        put(tmp_path, **{"coco.json": json.dumps(COCO)})
        with zipfile.ZipFile(tmp_path / outer, "w") as file:
            file.write(tmp_path / inner, inner)
    with pytest.raises(FileNotFoundError, match=r"^c\.zip holds 1 file, .*not read: b/a\.zip \(it is an archive"):
        recognise(tmp_path / "c.zip")


def test_what_is_said_of_an_archive_names_it_and_its_member(tmp_path, new_cache):
    put(tmp_path, **{"coco.json": json.dumps(COCO)})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for name in ("1.png", "coco.json"):
            file.write(tmp_path / name, f"inner/{name}")
    found = recognise(tmp_path / "set.zip")
    assert str(found).startswith("set.zip: COCO (one split), because inner/coco.json lists")
    data = read_source(found.sources[0])
    assert contents(data).startswith("set.zip/inner/coco.json: 1 image")
    (found.sources[0].images / "1.png").unlink()
    with pytest.raises(ValueError, match=r"^set\.zip/inner/coco\.json: set\.zip/inner lacks 1\.png of image 1 "):
        read_source(found.sources[0])


def test_labelme_says_what_other_files_among_its_own_are(tmp_path):
    put(tmp_path, **{"1.json": json.dumps(LABELME), "regions.json": json.dumps(VIA)})
    (source,) = recognise(tmp_path, "labelme").sources
    faults = Faults()
    labelme.read(source, faults)
    told = "1 file is not Labelme's and is passed over: regions.json (it is a file of VGG Image Annotator)"
    assert told in faults.notes()


@pytest.mark.parametrize("inside", ["runs/eval/mine", "mine"])
def test_runs_among_the_data_are_not_looked_into(inside, tmp_path):
    put(tmp_path, **{"data/coco.json": json.dumps(COCO), f"{inside}/config.yml": "", f"{inside}/metrics.json": "{}"})
    put(tmp_path, **{f"{inside}/coco.json": json.dumps(COCO)})
    found = recognise(tmp_path)
    assert [source.labels.parent.name for source in found.sources] == ["data"]
    assert found.passed_over == (f"not looked into, since runs and results lie there: {inside.partition('/')[0]}",)
    assert recognise(tmp_path / inside).root == tmp_path / inside  # what a person names is looked into


def test_a_folder_of_data_that_is_called_runs_is_read(tmp_path):
    put(tmp_path, **{"runs/monday/coco.json": json.dumps(COCO)})
    assert recognise(tmp_path).passed_over == ()
    assert not is_named(Data(dataset_dir=str(tmp_path)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_passed_over_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.json")
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.json").write_text("[1]")
    folder = Folder(tmp_path)
    assert folder.files == {tmp_path: ["b.json"]}
    assert "a.jpg, fifo.json (a pipe, socket or device, not a file)" in not_read(folder, [])[0]
    with pytest.raises(OSError, match=r"a\.jpg cannot be opened \(it is a pipe, a socket or a device\)"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("names: [a", "it cannot be read as YAML, from line 1 on"),
        ("a: 1", "it is YAML of something else"),
        ("names: !!python/name:os.system", "its images or class names were not found"),
    ],
)
def test_a_yaml_file_of_which_nothing_was_read_is_named(content, reason, tmp_path):
    put(tmp_path, **{"data.yaml": content})
    assert f"data.yaml ({reason})" in not_read(Folder(tmp_path), [])[0]


def test_names_cannot_command_a_terminal(tmp_path):
    put(tmp_path, **{"\x1b[31mred.json": "{}"})
    assert r"not read: \x1b[31mred.json (" in not_read(Folder(tmp_path), [])[0]
