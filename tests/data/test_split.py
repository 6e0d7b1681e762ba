"""What a recipe's data settings mean: files by name, a folder that is recognised, images set apart."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from maskrcnn.config import Data
from maskrcnn.data.convert import convert_data
from maskrcnn.data.recognise import recognise
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import divide_all, has_validation, is_named, open_split, read_parts


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Ten training and four validation images in the COCO2017 layout."""
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=10, num_val=4, seed=0, side=64)


@pytest.fixture
def one_split(shapes, tmp_path):
    """The training images and one file, as labelling tools export them: `images/` and `trainval.json`."""
    shutil.copytree(shapes / "train2017", tmp_path / "mine/images")
    shutil.copy(shapes / "annotations/instances_train2017.json", tmp_path / "mine/trainval.json")
    return Data(dataset_dir=str(tmp_path / "mine"))


def test_the_layout_of_coco_is_read_by_its_names(shapes):
    settings = Data(dataset_dir=str(shapes))
    assert is_named(settings)
    assert has_validation(settings)
    assert [len(open_split(settings, split).image_ids) for split in ("train", "val", "all")] == [10, 4, 14]


def test_a_folder_of_one_file_is_divided(one_split):
    training, validation = (open_split(one_split, split) for split in ("train", "val"))
    assert (len(training.image_ids), len(validation.image_ids)) == (8, 2)
    assert not set(training.file_names) & set(validation.file_names)
    assert "because trainval.json" in training.notes[0]
    assert "2 of 10 images set apart for validation (data.val_share=0.2, data.split_seed=0)" in training.notes[1]
    assert not has_validation(one_split)
    assert len(open_split(one_split, "all").image_ids) == 10


def test_another_seed_and_share_set_others_apart(one_split):
    names = {
        tuple(open_split(replace(one_split, split_seed=seed, val_share=0.3), "val").file_names) for seed in range(4)
    }
    assert len(names) > 1
    assert {len(one) for one in names} == {3}


def test_without_a_share_all_images_are_learnt(one_split):
    assert len(open_split(replace(one_split, val_share=0.0), "train").image_ids) == 10


def test_nearly_the_same_images_are_set_apart_together(one_split, tmp_path):
    """Every image twice, under two names."""
    content = json.loads((tmp_path / "mine/trainval.json").read_text())
    for image in list(content["images"]):
        twin = {**image, "id": image["id"] + 1000, "file_name": f"again-{image['file_name']}"}
        shutil.copy(tmp_path / "mine/images" / image["file_name"], tmp_path / "mine/images" / twin["file_name"])
        content["images"].append(twin)
    (tmp_path / "mine/trainval.json").write_text(json.dumps(content))
    validation = {name.removeprefix("again-") for name in open_split(one_split, "val").file_names}
    training = {name.removeprefix("again-") for name in open_split(one_split, "train").file_names}
    assert len(validation) == 2
    assert not validation & training


def test_a_split_file_decides(one_split, tmp_path):
    names = list(open_split(one_split, "all").file_names)
    (tmp_path / "s.json").write_text(json.dumps({"train": names[:7], "val": names[7:]}))
    settings = replace(one_split, split_file=str(tmp_path / "s.json"))
    assert list(open_split(settings, "val").file_names) == names[7:]
    assert list(open_split(settings, "train").file_names) == names[:7]
    assert has_validation(settings)


def test_a_split_file_divides_files_that_are_named(shapes, tmp_path):
    settings = Data(dataset_dir=str(shapes))
    names = list(open_split(settings, "all").file_names)
    (tmp_path / "s.json").write_text(json.dumps({"train": names[2:], "val": names[:2]}))
    assert len(open_split(replace(settings, split_file=str(tmp_path / "s.json")), "train").image_ids) == 12


def test_several_folders_are_joined_by_class_names(one_split, shapes):
    settings = replace(one_split, also=(str(shapes),))
    training, validation = (open_split(settings, split) for split in ("train", "val"))
    assert (len(training.image_ids), len(validation.image_ids)) == (20, 4)
    assert len(training.category_names) == 5
    assert all((training.images / name).is_file() for name in training.file_names)


def test_classes_are_chosen_and_renamed(one_split):
    data = open_split(replace(one_split, classes=("round=disc", "round=ring")), "all")
    assert data.category_names == ("round",)
    assert len(data.image_ids) == 10


def test_all_images_are_divided_on_demand(shapes):
    training, validation = divide_all(Data(dataset_dir=str(shapes), val_share=0.5))
    assert len(training.image_ids) == len(validation.image_ids) == 7


def test_every_split_is_read_as_it_is(one_split, shapes):
    splits, said = read_parts(one_split)
    assert {part: len(data.image_ids) for part, data in splits.items()} == {"": 10}
    assert len(said) == 1
    assert list(read_parts(Data(dataset_dir=str(shapes)))[0]) == ["train", "val"]


def test_a_test_split_is_converted_but_not_learnt(shapes, tmp_path):
    """Three named splits as Roboflow exports them, of which the last is neither learnt nor scored."""
    for part, name in (("train", "train2017"), ("valid", "val2017"), ("test", "val2017")):
        shutil.copytree(shapes / name, tmp_path / "set" / part)
        shutil.copy(shapes / f"annotations/instances_{name}.json", tmp_path / "set" / part / "_annotations.coco.json")
    settings = Data(dataset_dir=str(tmp_path / "set"))
    assert {part: len(data.image_ids) for part, data in read_parts(settings)[0].items()} == {
        "train": 10,
        "val": 4,
        "test": 4,
    }
    assert [len(open_split(settings, split).image_ids) for split in ("train", "val", "all")] == [10, 4, 14]
    assert "test: 4 images are not used" in open_split(settings, "train").notes
    list(convert_data(settings, "yolo", tmp_path / "out"))
    assert len(list((tmp_path / "out/images/test").iterdir())) == 4


@pytest.mark.parametrize("inside", ["", "yolo", "a/../yolo/b"])
def test_nothing_is_converted_into_the_folder_it_is_read_from(one_split, tmp_path, monkeypatch, inside):
    monkeypatch.chdir(tmp_path)
    for dest in (Path("mine") / inside, tmp_path / "mine" / inside):
        with pytest.raises(ValueError, match="lies in the data set's own folder"):
            list(convert_data(one_split, "yolo", dest))
    assert list(convert_data(one_split, "yolo", tmp_path / "mine-yolo"))


def test_what_lies_in_a_folder_is_told_with_the_reason(shapes):
    found = recognise(shapes)
    assert str(found).startswith(f"{shapes}: COCO (train, val), because annotations/instances_train2017.json lists ")


def test_a_folder_of_images_alone_is_told_as_such(tmp_path, shapes):
    shutil.copytree(shapes / "val2017", tmp_path / "pictures")
    with pytest.raises(FileNotFoundError, match="holds 4 files, 4 of them images, but no annotations of any format"):
        recognise(tmp_path / "pictures")


def test_an_export_inside_an_export_is_passed_over(shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "set")
    shutil.copytree(shapes, tmp_path / "set/old/backup")
    found = recognise(tmp_path / "set")
    assert {source.part: source.images for source in found.sources} == {
        "train": tmp_path / "set/train2017",
        "val": tmp_path / "set/val2017",
    }
    assert "a data set inside this one is not read" in str(found)


def test_a_wanted_format_that_is_not_there_is_refused(shapes):
    with pytest.raises(FileNotFoundError, match="no annotations of YOLO"):
        recognise(shapes, "yolo")


def test_every_image_of_the_two_splits_is_one_of_the_whole(one_split):
    sides = [open_split(one_split, split).image_ids for split in ("train", "val")]
    np.testing.assert_array_equal(np.sort(np.concatenate(sides)), np.sort(open_split(one_split, "all").image_ids))
