import json
import re

import pytest

from maskrcnn.data.formats import coco_folders, json_sample
from maskrcnn.data.formats.coco_folders import find, passed_over
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.recognise import recognise

ROW = {
    "id": 1,
    "image_id": 1,
    "category_id": 1,
    "bbox": [1, 2, 3, 4],
    "segmentation": [[1, 2, 4, 2, 4, 6]],
    "iscrowd": 0,
}


def coco(*names, row=ROW, **more):
    images = [{"id": id, "file_name": name, "height": 20, "width": 30} for id, name in enumerate(names, 1)]
    return {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "cat"}], **more}


def put(root, files):
    """Files by their names: JSON of objects, else empty."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) if content else "")
    return Folder(root)


def told(folder):
    """(part, annotation file, folder of images) of each split, below the root."""
    root = folder.root
    return [
        (one.part, one.labels.relative_to(root).as_posix(), one.images.relative_to(root).as_posix())
        for one in find(folder)
    ]


HABITS = {
    "COCO 2017": (
        {
            "annotations/instances_train2017.json": coco("001.jpg"),
            "annotations/instances_val2017.json": coco("002.jpg"),
            "train2017/001.jpg": None,
            "val2017/002.jpg": None,
        },
        [
            ("train", "annotations/instances_train2017.json", "train2017"),
            ("val", "annotations/instances_val2017.json", "val2017"),
        ],
    ),
    "annotation without s": (
        {"annotation/instances_train.json": coco("1.jpg"), "images/train/1.jpg": None},
        [("train", "annotation/instances_train.json", "images/train")],
    ),
    "one file beside images": (
        {"trainval.json": coco("1.jpg"), "images/1.jpg": None},
        [("", "trainval.json", "images")],
    ),
    "Roboflow": (
        {
            f"{part}/{name}": content
            for part in ("train", "valid", "test")
            for name, content in (("_annotations.coco.json", coco("a_jpg.rf.1.jpg")), ("a_jpg.rf.1.jpg", None))
        },
        [
            ("test", "test/_annotations.coco.json", "test"),
            ("train", "train/_annotations.coco.json", "train"),
            ("val", "valid/_annotations.coco.json", "valid"),
        ],
    ),
    "Label Studio": (
        {"result.json": coco("images\\3f-a.png"), "images/3f-a.png": None},
        [("", "result.json", ".")],
    ),
    "CVAT": (
        {"annotations/instances_default.json": coco("a.png"), "images/default/a.png": None},
        [("", "annotations/instances_default.json", "images/default")],
    ),
    "Datumaro": (
        {"annotations/instances_Train.json": coco("a.png"), "images/Train/a.png": None},
        [("train", "annotations/instances_Train.json", "images/Train")],
    ),
    "FiftyOne": ({"labels.json": coco("a.png"), "data/a.png": None}, [("", "labels.json", "data")]),
    "anywhere below": (
        {"x/y/mine.json": coco("a/1.png", "b/2.png"), "z/photos/a/1.png": None, "z/photos/b/2.png": None},
        [("", "x/y/mine.json", "z/photos")],
    ),
    "names with their folder": (
        {"annotations/instances_train2017.json": coco("train2017/1.png"), "train2017/1.png": None},
        [("train", "annotations/instances_train2017.json", ".")],
    ),
    "addresses and another case": (
        {"a.json": coco("https://host/bucket/one%20two.PNG"), "p/one two.png": None},
        [("", "a.json", "p")],
    ),
}


@pytest.mark.parametrize("habit", HABITS)
def test_each_habit_of_folders_is_found(habit, tmp_path):
    files, expected = HABITS[habit]
    assert told(put(tmp_path, files)) == expected


def test_what_tells_stands_in_a_sentence(tmp_path):
    (source,) = find(put(tmp_path, {"a.json": coco("1.png"), "p/1.png": None}))
    assert source.why == "a.json lists images, annotations and categories, whose files lie in p"
    (tmp_path / "p/1.png").unlink()
    (source,) = find(Folder(tmp_path))
    assert source.why.endswith("whose files are not there; expected in the folder itself")


def test_addresses_count_where_there_is_no_name(tmp_path):
    content = coco("1.png")
    del content["images"][0]["file_name"]
    content["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/1.png"
    assert told(put(tmp_path, {"train.json": content, "train2017/1.png": None})) == [
        ("train", "train.json", "train2017")
    ]


def test_names_go_before_addresses(tmp_path):
    content = coco("1.png")
    content["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/1.png"
    folder = put(tmp_path, {"a/train.json": content, "train2017/1.png": None})
    assert told(folder) == [("train", "a/train.json", "train2017")]


def test_masks_under_the_names_of_images_are_not_taken_for_them(tmp_path):
    folder = put(tmp_path, {"a/train.json": coco("1.png"), "a/masks/1.png": None, "b/images/1.png": None})
    assert told(folder) == [("train", "a/train.json", "b/images")]


def test_the_same_names_in_two_splits_are_told_by_the_split(tmp_path):
    names = {f"{part}/{number}.png": None for part in ("train", "val") for number in (1, 2)}
    folder = put(tmp_path, {"val.json": coco("1.png", "2.png"), "train.json": coco("1.png", "2.png"), **names})
    assert told(folder) == [("train", "train.json", "train"), ("val", "val.json", "val")]


def test_a_copy_of_a_data_set_keeps_its_own_images(tmp_path):
    one = {"annotations/instances_train.json": coco(*(f"{i}.png" for i in range(20)))}
    one |= {f"train/{i}.png": None for i in range(20)}
    folder = put(tmp_path, {f"{where}/{name}": content for where in ("new", "old") for name, content in one.items()})
    (tmp_path / "new/train/3.png").unlink()
    assert [images for _, _, images in told(Folder(tmp_path))] == ["new/train", "old/train"]
    assert folder.root == tmp_path


PASSED_OVER = {
    "captions_train2017.json": (coco("1.png", row={"image_id": 1, "id": 1, "caption": "a cat"}), "captions"),
    "panoptic_train2017.json": (coco("1.png", row={"image_id": 1, "segments_info": []}), "panoptic"),
    "keypoints.json": (coco("1.png", row={"image_id": 1, "keypoints": [1, 1, 2], "num_keypoints": 1}), "keypoints"),
    "image_info_test2017.json": (
        {"images": [{"id": 1, "file_name": "1.png"}], "categories": []},
        "without annotations",
    ),
    "results.json": ([{"image_id": 1, "category_id": 1, "score": 0.5}], "detections"),
    "person_keypoints_train2017.json": (coco("1.png", row=ROW | {"num_keypoints": 1}), "beside it"),
    "stuff_train2017.json": (coco("1.png"), "beside it"),
    "image_info_train2017.json": (coco("1.png") | {"annotations": []}, "no annotations"),
    "labels_train2017.json": (coco("1.png", row={"id": 1, "image_id": 1, "category_id": 1}), "without boxes or masks"),
    "lvis_v1_train.json": (
        coco("1.png") | {"images": [{"id": 1, "coco_url": "http://a/1.png", "neg_category_ids": []}]},
        "LVIS",
    ),
}


def test_what_is_no_instances_file_is_passed_over_with_the_reason(tmp_path):
    files = {name: content for name, (content, _) in PASSED_OVER.items()}
    folder = put(tmp_path, {**files, "instances_train2017.json": coco("1.png"), "1.png": None})
    assert [labels for _, labels, _ in told(folder)] == ["instances_train2017.json"]
    reasons = {path.name: reason for path, reason in passed_over(folder).items()}
    assert reasons.keys() == PASSED_OVER.keys()
    assert [name for name, (_, words) in PASSED_OVER.items() if words not in reasons[name]] == []


@pytest.mark.parametrize("others", [{}, {"instances_train2017.json": coco("1.png")}])
def test_a_person_is_told_why_a_file_is_not_read(others, tmp_path):
    captions, _ = PASSED_OVER["captions_train2017.json"]
    folder = put(tmp_path, {"captions_train2017.json": captions, **others, "1.png": None})
    sentence = r"not read: captions_train2017\.json \(it holds captions, no masks\)"
    if others:
        assert re.search(sentence, str(recognise(folder.root)))
    else:
        with pytest.raises(FileNotFoundError, match=sentence):
            recognise(folder.root)


def test_keypoints_with_masks_are_read_where_nothing_else_is_there(tmp_path):
    folder = put(tmp_path, {"person_keypoints_val.json": coco("1.png", row=ROW | {"num_keypoints": 1}), "1.png": None})
    assert told(folder) == [("val", "person_keypoints_val.json", ".")]


def test_a_file_without_annotations_is_read_where_nothing_else_is_there(tmp_path):
    folder = put(tmp_path, {"train.json": coco("1.png") | {"annotations": []}, "1.png": None})
    assert told(folder) == [("train", "train.json", ".")]


@pytest.mark.parametrize(
    "text", ["", "null", "[" * 100_000, '{"images": 3}', '{"shapes": []}', "\x89PNG", "{" * 100_000]
)
def test_other_json_is_nobodys(text, tmp_path):
    (tmp_path / "a.json").write_text(text, "latin-1")
    assert (find(Folder(tmp_path)), passed_over(Folder(tmp_path))) == ([], {})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_looked_through(encoding, tmp_path):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    put(tmp_path, {"p/ä.png": None})
    (tmp_path / "a.json").write_bytes((mark + json.dumps(coco("ä.png"))).encode(encoding))
    assert told(Folder(tmp_path)) == [("", "a.json", "p")]


@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("categories", "annotations", "images")])
def test_a_long_file_is_told_from_parts_of_it(order, tmp_path, monkeypatch):
    monkeypatch.setattr(json_sample, "WHOLE", 1000)
    monkeypatch.setattr(json_sample, "BLOCK", 1000)
    content = coco("1.png") | {"annotations": [ROW] * 5000}
    content["categories"] = [{"id": id, "name": "n" * 50, "supercategory": "s"} for id in range(100)]
    folder = put(tmp_path, {"a.json": {key: content[key] for key in order}, "p/1.png": None})
    assert told(folder) == [("", "a.json", "p")]


def test_few_files_of_a_folder_of_very_many_are_opened(tmp_path, monkeypatch):
    folder = put(
        tmp_path, {f"{number:04}.json": {"shapes": []} for number in range(200)} | {"my_coco.json": coco("1.png")}
    )
    opened = []
    monkeypatch.setattr(coco_folders, "sample", lambda path: opened.append(path) or json_sample.sample(path))
    assert [labels for _, labels, _ in told(folder)] == ["my_coco.json"]
    assert len(opened) == coco_folders.MOST_OF_FOLDER
