"""What COCO files say beside what is learnt: kept where COCO is written, named where it is lost."""

import json

import pytest
from msgspec import structs

from maskrcnn.config import Data
from maskrcnn.data.convert import convert_data

INFO = {"year": 2026, "contributor": "us"}
LICENSES = [{"id": 4, "name": "CC BY 4.0", "url": "http://example.org/4"}]
CATEGORIES = [
    {"id": 7, "name": "cup", "supercategory": "kitchen"},
    {"id": 3, "name": "cat", "supercategory": "animal", "colour": [1, 2]},
]
OF_IMAGE = {"license": 4, "flickr_url": "http://example.org/a", "coco_url": "http://example.org/b", "date_captured": ""}


@pytest.fixture
def settings(write_split, annotate, tmp_path):
    """Two images with one cup each, in a COCO file that says more than is learnt."""
    file, folder = write_split(
        [annotate(1, 1), annotate(2, 2)],
        [(40, 60), (30, 50)],
        CATEGORIES,
        info=INFO,
        licenses=LICENSES,
        videos=[{"id": 1}],
    )
    content = json.loads(file.read_text())
    content["images"][0] |= OF_IMAGE
    file.write_text(json.dumps(content))
    return Data(dataset_dir=str(tmp_path), train_img_dir=folder.name, train_anno_path=file.name, format="coco")


def converted(settings, form, dest):
    return [line for line in convert_data(settings, form, dest) if line.startswith("lost")]


def written(dest):
    return json.loads(next(dest.rglob("*.json")).read_text())


def test_coco_keeps_what_coco_says(settings, tmp_path_factory):
    dest = tmp_path_factory.mktemp("copy")
    assert converted(settings, "coco", dest) == []
    content = written(dest)
    assert (content["info"], content["licenses"], content["videos"]) == (INFO, LICENSES, [{"id": 1}])
    assert content["images"][0] == {"id": 1, "file_name": "1.png", "height": 40, "width": 60} | OF_IMAGE
    assert content["images"][1] == {"id": 2, "file_name": "2.png", "height": 30, "width": 50}
    assert sorted(content["categories"], key=lambda row: -row["id"]) == CATEGORIES


def test_classes_that_are_chosen_keep_what_is_said_of_them(settings, tmp_path_factory):
    dest = tmp_path_factory.mktemp("copy")
    converted(structs.replace(settings, classes=("cup", "pet=cat")), "coco", dest)
    assert written(dest)["categories"] == [CATEGORIES[1] | {"name": "pet"}, CATEGORIES[0]]


@pytest.mark.parametrize("form", ["coco", "lvis"])
def test_classes_that_become_one_keep_what_is_said_of_all_and_the_rest_is_named(form, settings, tmp_path_factory):
    dest = tmp_path_factory.mktemp("copy")
    lost = converted(structs.replace(settings, classes=("thing=cup", "thing=cat")), form, dest)
    [row] = written(dest)["categories"]
    assert (row["id"], row["name"], row["colour"]) == (3, "thing", [1, 2])
    assert "supercategory" not in row
    assert (
        "lost: 1 class stands for several categories; what these say differently is left out: thing (supercategory)"
    ) in lost


def test_a_class_that_is_renamed_keeps_its_keypoints(write_split, annotate, tmp_path, tmp_path_factory):
    """Only the first class has keypoints by name, no object has some."""
    posed = [{**CATEGORIES[0], "keypoints": ["rim", "foot"], "skeleton": [[1, 2]]}, CATEGORIES[1]]
    file, folder = write_split([annotate(1, 1)], [(40, 60)], posed)
    settings = Data(dataset_dir=str(tmp_path), train_img_dir=folder.name, train_anno_path=file.name, format="coco")
    dest = tmp_path_factory.mktemp("copy")
    assert converted(structs.replace(settings, classes=("mug=cup", "cat")), "coco", dest) == []
    assert written(dest)["categories"][1] == posed[0] | {"name": "mug"}
    told = "lost: keypoints of classes have no place in LVIS: rim, foot"
    assert told in converted(settings, "lvis", tmp_path_factory.mktemp("copy"))


def test_lvis_keeps_it_too(settings, tmp_path_factory):
    dest = tmp_path_factory.mktemp("copy")
    assert not any("COCO files" in line for line in converted(settings, "lvis", dest))
    content = written(dest)
    assert (content["info"], content["licenses"]) == (INFO, LICENSES)
    assert content["images"][0].items() >= OF_IMAGE.items()
    assert {row["supercategory"] for row in content["categories"]} == {"kitchen", "animal"}


@pytest.mark.parametrize("form", ["yolo", "labelme", "voc"])
def test_other_formats_name_what_is_lost(form, settings, tmp_path_factory):
    lines = converted(settings, form, tmp_path_factory.mktemp("copy"))
    (told,) = (line for line in lines if line.startswith("lost: what COCO files say besides has no place in "))
    assert told.endswith(
        ": info, licenses, videos; of images license, flickr_url, coco_url, date_captured; "
        "of categories supercategory, colour"
    )


def test_joined_files_name_what_is_lost(settings, write_split, annotate, tmp_path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "set").symlink_to(tmp_path)
    both = Data(dataset_dir=str(tmp_path), also=(str(other),), format="coco")
    told = converted(both, "coco", tmp_path_factory.mktemp("copy"))
    assert told == [
        "lost: what COCO files say besides is not joined: info, licenses, videos; of images license, flickr_url, "
        "coco_url, date_captured; of categories supercategory, colour"
    ]
