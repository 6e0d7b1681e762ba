"""Results of `maskrcnn predict`, which numbers images anew, are found by the names of their files."""

import json
import warnings
from pathlib import Path

import pytest

from maskrcnn.evaluate import coco
from maskrcnn.evaluate.named_results import FileNames
from maskrcnn.sentences import Note

BOXES = {"b.png": [3, 4, 20, 10], "a.png": [30, 2, 12, 25], "c.png": [5, 5, 40, 8]}
"""File -> its only object, in the order of the annotations, which is not that of the names."""


def square(box):
    left, top, width, height = box
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def annotated(names, first_id=1):
    """Images of 30 x 50 with an object each, ids in the order of `names`."""
    boxes = [BOXES[Path(name).name] for name in names]
    return {
        "images": [{"id": first_id + n, "height": 30, "width": 50, "file_name": name} for n, name in enumerate(names)],
        "categories": [{"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1 + n, "image_id": first_id + n, "category_id": 2, "iscrowd": 0, "bbox": box}
            | {"area": box[2] * box[3], "segmentation": square(box)}
            for n, box in enumerate(boxes)
        ],
    }


def predicted(*paths):
    """What `maskrcnn predict` writes of exact results: ids count from 1 in the order of the files."""
    boxes = [BOXES[Path(path).name] for path in paths]
    return [
        {"image_id": n, "category_id": 2, "score": 0.9, "bbox": box, "segmentation": square(box), "file_name": path}
        for n, (path, box) in enumerate(zip(paths, boxes, strict=True), 1)
    ]


PREDICTED = predicted("val/a.png", "val/b.png", "val/c.png")


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("first_id", [1, 139])
@pytest.mark.parametrize("folder", ["", "val/", "images/val/"])
def test_ids_that_do_not_fit_the_names_are_those_of_the_names(first_id, folder):
    truth = annotated([folder + name for name in BOXES], first_id)
    with pytest.warns(Note, match="looked up by file_name, because image_id does not fit") as said:
        metrics = coco.score(truth, PREDICTED)
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == pytest.approx(1)
    there = f"image 1 ({folder}b.png)" if first_id == 1 else "no image"
    assert str(said[0].message) == (
        "results: images were looked up by file_name, because image_id does not fit annotations: result 0 has "
        f"image_id 1 and file_name val/a.png, and there this id is {there}"
    )
    assert len(said) == 1


def test_files_are_scored_by_names_too(tmp_path):
    for name, content in (("truth", annotated(BOXES)), ("results", PREDICTED)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.warns(Note, match="truth.json: result 0 has image_id 1 and file_name val/a.png"):
        metrics = coco.score_files(tmp_path / "truth.json", tmp_path / "results.json")
    assert metrics["bbox"]["AP"] == pytest.approx(1)


def test_where_ids_and_names_agree_nothing_changes(silent):
    truth = annotated(["x/a.png", "y/a.png", "y/b.png"])
    results = predicted("a.png", "a.png", "b.png")  # of which the first two names tell less than the ids
    results[0]["image_id"], results[1]["image_id"] = 2, 1
    assert coco.score(truth, results)["bbox"]["AP"] == pytest.approx(1)


def test_names_without_a_counterpart_leave_ids_alone(silent):
    truth = annotated(["a.png", "b.png", "c.png"])
    for image in truth["images"]:
        del image["file_name"]
    assert coco.score(truth, PREDICTED)["bbox"]["AP"] == pytest.approx(1)
    nameless = [{key: value for key, value in one.items() if key != "file_name"} for one in PREDICTED]
    assert coco.score(annotated(["a.png", "b.png", "c.png"]), nameless)["bbox"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("names", "given", "chosen"),
    [
        (["a/1.jpg", "b/1.jpg"], "b/1.jpg", [1]),
        (["a/1.jpg", "b/1.jpg"], "/data/b/1.jpg", [1]),
        (["a/1.jpg", "b/1.jpg"], r"C:\data\.\b\1.jpg", [1]),
        (["a/1.jpg", "b/1.jpg"], "s3://bucket/b/1.jpg", [1]),
        (["val/a/1.jpg", "val/b/1.jpg"], "b/1.jpg", [1]),
        (["a/1.jpg", "1.jpg"], "1.jpg", [1]),
        (["a/1.jpg", "1.jpg"], "data/a/1.jpg", [0]),
        (["a/1.jpg", "1.jpg"], "c/1.jpg", [1]),
        (["a/1.jpg", "b/2.jpg"], "c/2.jpg", [1]),
        (["a/1.jpg", "b/1.jpg"], "c/1.jpg", [0, 1]),
        (["1.jpg", "1.jpg"], "a/1.jpg", [0, 1]),
        (["1.jpg", ""], "11.jpg", []),
        (["", "1.jpg"], "/", []),
    ],
)
def test_a_whole_name_comes_before_shared_folders_and_those_before_the_last_part(names, given, chosen):
    assert FileNames(names).find(given) == chosen


@pytest.mark.parametrize(
    ("names", "paths", "message"),
    [
        (
            ["x/b.png", "x/a.png", "y/a.png"],
            ["a.png", "b.png"],
            r"result 0 is of a.png by its file_name, which may be image 2 \(x/a.png\) or image 3 \(y/a.png\) of annot",
        ),
        (
            ["b.png", "a.png"],
            ["a.png", "b.png", "c.png"],
            r"result 2 is of c.png by its file_name, which is none of the 2 images of annotations; leave file_name out",
        ),
        (
            ["b.png", "a.png"],
            ["x/a.png", "x/b.png", "y/b.png"],
            r"result 2 is of y/b.png by its file_name, and others are of x/b.png, but both would be image 1 \(b.png\)",
        ),
    ],
)
def test_a_name_of_several_images_or_none_is_refused(names, paths, message):
    with pytest.raises(ValueError, match=message):
        coco.score(annotated(names), predicted(*paths))


def test_a_result_without_a_name_is_refused_where_names_are_needed():
    results = [dict(one) for one in PREDICTED]
    del results[1]["file_name"]
    with pytest.raises(ValueError, match=r"result 0 has image_id 1 .* do not fit, and result 1 has no file_name"):
        coco.score(annotated(BOXES), results)


def test_an_unknown_id_without_a_name_is_explained():
    [result, *_] = predicted("a.png")
    del result["file_name"]
    message = r"image 1\) is .* not among the 3 .* ids are 139, 140, 141; `maskrcnn predict` numbers images 1, 2, 3"
    with pytest.raises(ValueError, match=message):
        coco.score(annotated(BOXES, 139), [result])
