"""Images set apart for validation."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.dataset import select
from maskrcnn.data.division import SplitFile, divide, pick, read_split_file, write_split_file
from maskrcnn.data.formats import coco

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cup"}]


def many(write_split, annotate, classes):
    """An image with one object for each given category id; 0 is an image without one."""
    rows = [annotate(k, k, category_id=id) for k, id in enumerate(classes, 1) if id]
    return coco.read(*write_split(rows, sizes=[(40, 60)] * len(classes), categories=CATEGORIES))


def test_every_class_is_divided_alike(write_split, annotate):
    data = many(write_split, annotate, [3] * 10 + [7] * 40 + [0] * 20)
    apart = divide(data, 0.2, seed=0)
    assert [int(apart[part].sum()) for part in (slice(0, 10), slice(10, 50), slice(50, 70))] == [2, 8, 4]


def test_the_seed_decides_which(write_split, annotate):
    data = many(write_split, annotate, [7] * 30)
    assert divide(data, 0.2, 1).tolist() == divide(data, 0.2, 1).tolist()
    assert divide(data, 0.2, 1).tolist() != divide(data, 0.2, 2).tolist()


def test_images_of_one_group_stay_together(write_split, annotate):
    groups = np.arange(30) // 3
    apart = divide(many(write_split, annotate, [7] * 30), 0.2, 0, groups)
    assert apart.sum() == 6
    assert all(len(set(apart[groups == group].tolist())) == 1 for group in range(10))


def test_a_class_of_one_image_is_learnt(write_split, annotate):
    data = many(write_split, annotate, [3] + [7] * 9)
    assert not any(divide(data, 0.5, seed)[0] for seed in range(20))


def test_a_class_never_goes_to_validation_as_a_whole(write_split, annotate):
    """Each image shows a class of its own, and two of them share another one."""
    categories = [{"id": id, "name": f"class {id}"} for id in range(1, 12)]
    rows = [annotate(k, k, category_id=k) for k in range(1, 9)]
    rows += [annotate(9, 9, category_id=9), annotate(10, 10, category_id=9)]
    data = coco.read(*write_split(rows, sizes=[(40, 60)] * 10, categories=categories))
    for seed in range(10):
        apart = divide(data, 0.4, seed)
        assert apart.tolist().count(True) == 1
        assert apart[8] != apart[9]


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_neither_side_is_empty(write_split, annotate, share):
    assert 0 < divide(many(write_split, annotate, [7, 7, 0]), share, 0).sum() < 3


def test_one_image_cannot_be_divided(write_split, annotate):
    with pytest.raises(ValueError, match=r"1 image cannot be divided .* train\.evaluate_every=0"):
        divide(many(write_split, annotate, [7]), 0.2, 0)


def test_what_was_written_down_is_picked_again(write_split, annotate, tmp_path):
    data = many(write_split, annotate, [7, 7, 3])
    write_split_file(tmp_path / "s.json", select(data, np.array([0, 2])), select(data, np.array([1])), 0.2, 5)
    file = read_split_file(tmp_path / "s.json")
    assert (file.train, file.val, file.seed) == (["1.png", "3.png"], ["2.png"], 5)
    assert list(pick(data, "val", file, tmp_path).file_names) == ["2.png"]
    assert list(pick(data, "train", file, tmp_path).file_names) == ["1.png", "3.png"]


def test_why_several_images_cannot_be_divided_is_said(write_split, annotate):
    data = many(write_split, annotate, [7, 7])
    with pytest.raises(ValueError, match=r"2 images cannot be divided .*, since they are nearly the same"):
        divide(data, 0.5, 0, groups=np.array([3, 3]))


def test_new_images_are_for_training_and_said(write_split, annotate, tmp_path):
    data = many(write_split, annotate, [7, 7, 3])
    picked = pick(data, "train", SplitFile(["1.png"], ["2.png"]), tmp_path / "s.json")
    assert list(picked.file_names) == ["1.png", "3.png"]
    assert picked.notes[0] == f"{tmp_path}/s.json does not name 1 image, for training then: 3.png"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"train": ["1.png"], "val": ["1.png"]}, "1.png stand in both lists"),
        ({"train": ["1.png"], "val": ["x.png"]}, "has none of the 1 images of `val`; was it written for other data?"),
        ({"train": 3}, "expected a JSON object with the lists `train` and `val`"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused(write_split, annotate, tmp_path, content, sentence):
    path = tmp_path / "s.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=sentence):
        pick(many(write_split, annotate, [7]), "val", read_split_file(path), path)


def test_a_split_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"s\.json does not exist; `maskrcnn data split` writes one"):
        read_split_file(tmp_path / "s.json")


def test_columns_follow_their_images(write_split, annotate):
    data = replace(many(write_split, annotate, [7, 0, 3]), stated_ids=["a", "b", "c"])
    assert select(data, np.array([2])).stated_ids == ["c"]


def test_a_folder_or_what_nests_too_deeply_is_no_split_file(tmp_path):
    with pytest.raises(OSError, match=f"the file {tmp_path} cannot be read"):
        read_split_file(tmp_path)
    (tmp_path / "split.json").write_text('{"train": [], "val": [], "more": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"split\.json: expected a JSON object"):
        read_split_file(tmp_path / "split.json")
