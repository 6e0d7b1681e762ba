"""`maskrcnn data check`: table, JSON, page, repaired copy, exit code."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Three images for training and one for validation, of 20 x 30 pixels; the second lacks its file's end."""
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    for name, ids in (("train2017", (1, 2, 3)), ("val2017", (101,))):
        (root / name).mkdir()
        images = [{"id": id, "file_name": f"{id}.png", "height": 20, "width": 30} for id in ids]
        for id in ids:
            pixels = np.random.default_rng(id).integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{id}.png")
        ring = [5, 4, 25, 4, 25, 14, 5, 14]
        row = {"category_id": 1, "bbox": [5, 4, 20, 10], "area": 200, "iscrowd": 0, "segmentation": [ring]}
        rows = [{"id": 10 * id, "image_id": id, **row} for id in ids]
        content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "<cup>"}]}
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    path = root / "train2017" / "2.png"
    path.write_bytes(path.read_bytes()[:900])
    return root


def test_each_kind_stands_once_with_split_count_names_and_remedy(maskrcnn, folder, capsys):
    assert maskrcnn("data", "check", folder) == 1
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith(f"{folder}/annotations/instances_train2017.json: 3 images")
    start = lines.index("refused  image-cut-off       train 1")
    assert lines[start + 1 : start + 3] == ["         1 image is cut off", "         train: 2 (2.png)"]
    assert lines[start + 4] == "         --fix: the image is left out"
    assert "warning  split-of-one-image  val 1" in lines
    assert "kinds of fault: 1 refused, 1 warning, 1 note; --fix DEST repairs 1 of them in a copy" in lines


def test_programs_get_one_object_with_the_same(maskrcnn, folder, capsys):
    assert maskrcnn("data", "check", folder, "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert list(content) == ["source", "deep", "splits", "kinds", "faults"]
    assert content["kinds"] == {"refused": 1, "warning": 1, "note": 1}
    assert content["splits"]["train"]["categories"] == [{"id": 1, "name": "<cup>", "objects": 3}]
    first = content["faults"][0]
    assert (first["kind"], first["severity"], first["splits"]) == ("image-cut-off", "refused", {"train": 1})
    assert first["examples"] == {"train": ["2 (2.png)"]}
    assert list(first) == [
        *("kind", "severity", "count", "noun", "claim", "splits", "examples", "sentence", "repair"),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_are_told(maskrcnn, folder, capsys):
    Path(os.fsdecode(bytes(folder / "train2017") + b"/\xff.png")).touch()
    assert maskrcnn("data", "check", folder, "--json") == 1
    found = {one["kind"]: one for one in json.loads(capsys.readouterr().out)["faults"]}
    assert found["file-not-annotated"]["examples"]["train"] == ["\ufffd.png"]
    maskrcnn("data", "check", folder)
    assert "\ufffd.png" in capsys.readouterr().out


def test_warnings_fail_when_they_are_asked_to(maskrcnn, folder):
    (folder / "train2017" / "2.png").write_bytes((folder / "train2017" / "1.png").read_bytes())
    assert maskrcnn("data", "check", folder) == 0
    assert maskrcnn("data", "check", folder, "--strict") == 1


def test_the_page_shows_who_has_it_and_needs_nothing_else(maskrcnn, folder, tmp_path, capsys):
    (folder / "train2017" / "3.png").write_bytes((folder / "train2017" / "1.png").read_bytes())
    maskrcnn("data", "check", folder, "--page", tmp_path / "pages")
    assert f"page in {tmp_path}/pages/check.html" in capsys.readouterr().err
    page = (tmp_path / "pages" / "check.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1, "of the copy; the other cannot be decoded"
    assert "train, image 3 (3.png)" in page
    assert "2.png cannot be decoded" in page
    assert "&lt;cup&gt;" in page
    assert "<cup>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_page_may_be_named(maskrcnn, folder, tmp_path):
    maskrcnn("data", "check", folder, "--page", tmp_path / "a.html")
    assert (tmp_path / "a.html").is_file()


def test_the_repaired_copy_passes(maskrcnn, folder, tmp_path, capsys):
    assert maskrcnn("data", "check", folder, "--fix", tmp_path / "copy") == 1
    assert "train: 1 image is cut off: 2 (2.png): left out" in capsys.readouterr().err
    assert maskrcnn("data", "check", tmp_path / "copy") == 0


def test_no_copy_lacks_a_split_that_cannot_be_read(maskrcnn, folder, tmp_path, capsys):
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text()[:100])
    assert maskrcnn("data", "check", folder, "--fix", tmp_path / "copy") == 1
    told = capsys.readouterr().err
    assert "error: no copy was written, for it would lack the val split, which cannot be read: " in told
    assert str(path) in told
    assert not (tmp_path / "copy").exists()


def add_class(folder, name, split):
    path = folder / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 2, "name": name})
    path.write_text(json.dumps(content))


def test_chosen_classes_alone_are_looked_at(maskrcnn, folder, capsys):
    for split in ("train", "val"):
        add_class(folder, "unused", split)
    maskrcnn("data", "check", folder, "--json")
    assert "category-unused" in capsys.readouterr().out
    maskrcnn("data", "check", folder, "data.classes=[mug=<cup>]", "--json")
    content = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in content["splits"]["val"]["categories"]] == ["mug"]
    assert "category-unused" not in {one["kind"] for one in content["faults"]}


def test_a_chosen_class_that_is_not_there_is_refused(maskrcnn, folder, capsys):
    assert maskrcnn("data", "check", folder, "data.classes=[cat]") == 2
    assert "has no class 'cat'" in capsys.readouterr().err


def test_a_chosen_class_may_be_in_the_split_that_cannot_be_read(maskrcnn, folder, capsys):
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text()[:100])
    assert maskrcnn("data", "check", folder, "data.classes=[<cup>,cat]", "--json") == 1
    faults = {one["kind"]: one for one in json.loads(capsys.readouterr().out)["faults"]}
    assert str(path) in faults["split-unreadable"]["sentence"]
    assert faults["class-not-there"]["examples"] == {"train": ["cat"]}
    assert maskrcnn("data", "check", folder, "data.classes=[cat]", "--json") == 1
    faults = {one["kind"]: one for one in json.loads(capsys.readouterr().out)["faults"]}
    assert faults["split-unreadable"]["splits"] == {"train": 1, "val": 1}
    assert faults["split-unreadable"]["sentence"].endswith("has none of the chosen classes: cat")


def test_a_chosen_class_of_one_split_is_named_for_the_other(maskrcnn, folder, capsys):
    add_class(folder, "cat", "val")
    assert maskrcnn("data", "check", folder, "data.classes=[<cup>,cat]", "--json") == 1
    faults = {one["kind"]: one for one in json.loads(capsys.readouterr().out)["faults"]}
    assert faults["class-not-there"]["examples"] == {"train": ["cat"]}


def test_a_missing_validation_split_is_a_note_with_the_ways_out(maskrcnn, folder, capsys):
    (folder / "annotations" / "instances_val2017.json").unlink()
    maskrcnn("data", "check", folder)
    text = capsys.readouterr().out
    assert "note     validation-split-missing" in text
    assert "data.val_share" in text
    assert "train.evaluate_every=0" in text


def test_columns_are_coloured_on_a_terminal(maskrcnn, folder, capsys, monkeypatch):
    from maskrcnn.cli import health

    monkeypatch.setattr(health.sys.stdout, "isatty", lambda: True, raising=False)
    maskrcnn("data", "check", folder)
    text = capsys.readouterr().out
    assert "image-cut-off" in text
    assert "refused  image-cut-off       train 1" not in text


def test_progress_is_told_when_it_takes_long(capsys, monkeypatch):
    from maskrcnn.cli.health import Meter

    now = iter([0.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr("maskrcnn.status_line.time.monotonic", lambda: next(now))
    meter = Meter()
    for done in (1, 2, 3):
        meter("train: reading headers", done, 3)
    assert capsys.readouterr().err == "train: reading headers: 1 of 3 images\n"


def test_an_archive_that_is_cut_off_is_one_data_set(maskrcnn, tmp_path, capsys):
    path = tmp_path / "data.zip"
    path.write_bytes(b"PK\x03\x04")
    assert maskrcnn("data", "check", path, "--fix", tmp_path / "copy") == 1
    told = capsys.readouterr()
    assert "refused  data-set-unreadable  all 1\n         1 data set cannot be read" in told.out
    assert told.err.startswith(f"error: no copy was written, for nothing can be read: {path} is damaged or cut off")
    assert not (tmp_path / "copy").exists()
