"""Annotated images to leaf through: a page, a picture for each image, contact sheets."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco
from maskrcnn.report.album import picture_name, write_album
from maskrcnn.report.annotated import draw_annotated
from maskrcnn.report.sheets import CELL, EACH, Sheets, chosen_for_sheets, spread_evenly

from .test_page import Balanced

NAMES = ["a/1.png", "b/1.png", "a/1.bmp", "c/<img src=x onerror=alert(1)>.png", "gone.png"]


@pytest.fixture
def data(tmp_path) -> Dataset:
    """Images of 40 x 60 pixels, the first with a small and a large `</script>` and a cup, the last without a file."""
    for number, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), (40 * number, 90, 90)).save(tmp_path / name)
    objects = [(7, 400), (7, 9300), (3, 1500)]
    rows = [
        {"id": number, "image_id": 1, "category_id": category, "bbox": [10, 5, 20, 20], "iscrowd": 0, "area": area}
        | {"segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]]}
        for number, (category, area) in enumerate(objects, 1)
    ]
    images = [{"id": n, "file_name": name, "height": 40, "width": 60} for n, name in enumerate(NAMES, 1)]
    categories = [{"id": 3, "name": "cup"}, {"id": 7, "name": "</script><b>cat"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (tmp_path / "all.json").write_text(json.dumps(content))
    data = coco.read(tmp_path / "all.json", tmp_path)
    (tmp_path / "gone.png").unlink()
    return data


def test_an_album_has_a_picture_for_each_image_and_what_is_on_it(data, tmp_path):
    done = []
    album = write_album(
        data, range(5), tmp_path / "out", title="<i>my", split="train", tell=lambda *told: done.append(told)
    )
    page = album.page.read_text(encoding="utf-8")
    told = json.loads(re.search(r'<script type="application/json" id="album">(.*?)</script>', page, re.DOTALL)[1])
    assert [image["name"] for image in told["images"]] == NAMES
    assert told["classes"] == ["cup", "</script><b>cat"]
    assert told["images"][0]["objects"] == [[1, 0, 1, 0], [2, 1, 0, 1]]
    assert (told["images"][1]["objects"], told["images"][0]["size"]) == ([], [60, 40])
    files = [image["file"] for image in told["images"][:4]]
    assert len(set(files)) == 4
    assert sorted(path.name for path in (tmp_path / "out/pictures").iterdir()) == sorted(f[9:] for f in files)
    assert Image.open(tmp_path / "out" / files[0]).size == (540, 360)
    assert done == [(n, 5) for n in range(1, 6)]


def test_an_image_of_a_12_bit_camera_is_told_beside_its_dark_picture(data, tmp_path):
    Image.fromarray(np.full((40, 60), 4095, np.uint16)).save(tmp_path / "b/1.png")
    (told,) = write_album(data, [0, 1], tmp_path / "out", title="my", split="train").remarks
    assert told.startswith(f"{tmp_path}/b/1.png uses 6 % of its 16 bits and is read nearly black")


def test_names_of_classes_and_files_are_looked_up_in_the_fonts(data, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("maskrcnn.report.album.note_unreadable", told.append)
    write_album(data, [2, 0], tmp_path / "out", title="my", split="train")
    assert told == [["cup", "</script><b>cat", "a/1.bmp", "a/1.png"]]


def test_an_image_that_cannot_be_read_is_told_of_in_its_place(data, tmp_path):
    album = write_album(data, [4, 1], tmp_path / "out", title="my", split="val")
    [failure] = album.failures
    assert failure.startswith(f"the image {tmp_path}/gone.png does not exist")
    told = json.loads(re.search(r'id="album">(.*?)</script>', album.page.read_text(encoding="utf-8"), re.DOTALL)[1])
    assert [(image["file"], image["failure"]) for image in told["images"]] == [
        ("pictures/val-000004-gone.jpg", failure),
        ("pictures/val-000001-1.jpg", ""),
    ]
    assert Image.open(album.sheets[0]).size == (416 + 16, 362 + 16)


def test_the_page_is_valid_and_names_from_the_data_are_harmless(data, tmp_path):
    page = write_album(data, range(5), tmp_path, title="<i>my", split="all").page.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.loaded == ["sheet-1.jpg"]
    assert not re.search(r"https?://|url\(|@import|<b>cat|<i>my|<img src=x|innerHTML", page)
    assert "&lt;i&gt;my" in page
    assert page.count("</script>") == 2
    assert "5 of 5 (all)" in page


def test_names_of_pictures_are_those_of_any_disk(data):
    assert picture_name(data, 3, "train") == "train-000003-img-src-x-onerror-alert-1.jpg"
    renamed = coco.parse(
        {
            "images": [
                {"id": n, "file_name": f"{name}.png", "height": 4, "width": 6} for n, name in enumerate("细x" * 50)
            ],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}],
        }
    )
    assert [picture_name(renamed, image, "val") for image in (0, 1)] == ["val-000000.jpg", "val-000001-x.jpg"]


def test_a_large_image_is_reduced_before_its_objects_are_drawn(data, tmp_path, monkeypatch):
    drawn = []
    nothing = Image.new("RGB", (1, 1))
    monkeypatch.setattr("maskrcnn.report.annotated.draw_instances", lambda *given, **_: drawn.append(given) or nothing)
    draw_annotated(data, 0, np.zeros((40, 60, 3), np.uint8), (30, 30))
    [(pixels, boxes, masks, names)] = drawn
    assert (pixels.shape, boxes[0].tolist()) == ((20, 30, 3), [5, 2.5, 15, 12.5])
    assert names == ["</script><b>cat", "</script><b>cat", "cup"]
    rows, columns = np.nonzero(next(iter(masks)))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (5, 14, 2, 11)  # centres on the border above count


def test_objects_of_a_long_and_narrow_image_stay_in_place(monkeypatch):
    drawn = []
    nothing = Image.new("RGB", (1, 1))
    monkeypatch.setattr("maskrcnn.report.annotated.draw_instances", lambda *given, **_: drawn.append(given) or nothing)
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [200, 0, 100, 4], "iscrowd": 0, "segmentation": []}
    image = {"id": 1, "file_name": "a.png", "height": 4, "width": 400}
    data = coco.parse({"images": [image], "annotations": [row], "categories": [{"id": 1, "name": "cat"}]})
    draw_annotated(data, 0, np.zeros((4, 400, 3), np.uint8), (40, 40))
    [(pixels, boxes, *_)] = drawn
    assert (pixels.shape, boxes[0, 0], boxes[0, 2]) == ((1, 40, 3), 20, 30)


def test_sheets_are_full_before_the_next_one_begins_and_old_ones_go(tmp_path):
    for name in ("sheet-1.jpg", "sheet-7.jpg", "sheet-mine.jpg"):
        (tmp_path / name).write_text("old")
    sheets = Sheets(tmp_path)
    for number in range(EACH + 2):
        sheets.add(Image.new("RGB", (900, 300), "red"), f"{number}-" + "long " * 40, "note")
    sheets.save()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet-1.jpg", "sheet-2.jpg", "sheet-mine.jpg"]
    first, second = map(Image.open, sheets.paths)
    assert (first.size, second.size) == ((5 * 416 + 16, 6 * 362 + 16), (2 * 416 + 16, 362 + 16))
    red = np.asarray(first)[16 : 16 + CELL[1], 16 : 16 + CELL[0], 1] < 60
    rows, columns = np.nonzero(red)  # 900 x 300 became 400 x 133, in the middle
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (83, 215, 0, 399)


def test_pictures_are_spread_evenly():
    assert spread_evenly(160, 3) == [0, 53, 106]
    assert spread_evenly(3, 9) == [0, 1, 2]
    assert spread_evenly(0, 9) == []
    assert len(chosen_for_sheets(200_000)) == 360
    assert chosen_for_sheets(31) == set(range(31))
