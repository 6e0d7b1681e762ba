import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import yolo
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.formats.yolo_layout import read_layout
from maskrcnn.data.recognise import recognise

OUTLINE = "0 0.1 0.1 0.5 0.1 0.5 0.4"  # of an image of 20 x 10 pixels: (2, 1), (10, 1), (10, 4)


def put(root: Path, files: dict[str, str], *images: str, size: tuple[int, int] = (20, 10)) -> Folder:
    """Write text files, and images of one (width, height)."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / name)
    return Folder(root)


def read_one(folder: Folder):
    """The one split in a folder, and what was met."""
    [source] = yolo.find(folder)
    faults = Faults()
    return yolo.read(source, faults), {fault.kind.name: fault for fault in faults}


def layout(train: str, more: str = "names: [cat, dog]") -> str:
    return f"train: {train}\n{more}\n"


@pytest.mark.parametrize(
    ("where", "content"),
    [
        ("images/train", layout("images/train")),
        ("set/images/train", layout("images/train", "path: set\nnames: [cat, dog]")),
        ("images/train", layout("images/train", "path: /content/elsewhere\nnames: {0: cat, 1: dog}")),
        ("train/images", layout("../train/images", "nc: 2\nnames: ['cat', 'dog']")),
        ("train/images", layout("/content/drive/set/train/images")),
        ("images/train", layout(r"images\train")),
        ("images/train", layout("[images/train]")),
        ("images/train", layout("train.txt")),
    ],
)
def test_a_data_yaml_is_understood_in_every_habit(tmp_path, where, content):
    labels = where.replace("images", "labels")
    files = {"data.yaml": content, f"{labels}/a.txt": OUTLINE, "train.txt": f"./{where}/a.png\n./{where}/b.png\n"}
    folder = put(tmp_path, files, f"{where}/a.png", f"{where}/b.png")
    [source] = yolo.find(folder)
    assert (source.part, source.images, source.labels) == ("train", tmp_path / where, tmp_path / labels)
    data, met = read_one(folder)
    assert list(data.file_names) == ["a.png", "b.png"]
    assert data.category_names == ("cat", "dog")
    assert data.sizes.tolist() == [[10, 20], [10, 20]]
    assert data.first_object.tolist() == [0, 1, 1]
    np.testing.assert_allclose(data.rings.points, [(2, 1), (10, 1), (10, 4)])
    assert data.boxes.tolist() == [[2, 1, 10, 4]]
    assert met == {}


def test_splits_of_a_yaml_may_be_missing_and_several_folders(tmp_path):
    content = "train:\n- a/images\n- b/images\nval: valid/images\ntest: test/images\nnames:\n  0: cat\n  7: no\n"
    files = {
        "data.yaml": content,
        "a/labels/1.txt": OUTLINE,
        "b/labels/2.txt": "7 0.5 0.5 0.2 0.4",
        "valid/labels/3.txt": "",
    }
    folder = put(tmp_path, files, "a/images/1.png", "b/images/2.png", "valid/images/3.png")
    train, val = yolo.find(folder)
    assert (train.part, val.part, train.images) == ("train", "val", tmp_path)
    data = yolo.read(train, Faults())
    assert list(data.file_names) == ["a/images/1.png", "b/images/2.png"]
    assert data.category_names == ("cat", "no")
    assert data.labels.tolist() == [1, 2]
    np.testing.assert_allclose(data.stated_boxes[1], [8, 3, 4, 4], rtol=0, atol=1e-6)
    assert data.flags.tolist() == [0, Flag.NO_OUTLINE]
    assert len(yolo.read(val, Faults()).labels) == 0


@pytest.mark.parametrize("train", ["path: {root}\ntrain: t/images", "train: {root}/t/images", "train: {root}/t.txt"])
@pytest.mark.parametrize("given", ["set", ".", "link"])
def test_absolute_paths_are_spelled_as_the_folder_is(tmp_path, monkeypatch, train, given):
    root = tmp_path / "set"
    content = f"{train.format(root=root)}\nval: v/images\nnames: [cat]\n"
    files = {"data.yaml": content, "t/labels/a.txt": OUTLINE, "v/labels/b.txt": OUTLINE}
    put(root, {**files, "t.txt": f"{root}/t/images/a.png\n"}, "t/images/a.png", "v/images/b.png")
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(root if given == "." else tmp_path)
    given = tmp_path / given if given == "link" else Path(given)
    found = recognise(given)
    assert {source.part: source.images for source in found.sources} == {
        "train": given / "t/images",
        "val": given / "v/images",
    }
    assert [list(yolo.read(source, Faults()).file_names) for source in found.sources] == [["a.png"], ["b.png"]]


@pytest.mark.parametrize("train", ["train/images", "[train/images, more/images]"])
def test_folders_that_a_data_yaml_does_not_name_are_passed_over(tmp_path, train):
    folders = ("train", "more", "valid", "rejected")
    files = {"data.yaml": layout(train, "val: valid/images\nnames: [cat]")}
    put(tmp_path, files | {f"{one}/labels/{one}.txt": OUTLINE for one in folders})
    put(tmp_path, {}, *(f"{one}/images/{one}.png" for one in folders))
    found = recognise(tmp_path)
    images = [name for source in found.sources for name in yolo.read(source, Faults()).file_names]
    left = {"more", "rejected"} if train == "train/images" else {"rejected"}
    assert {Path(name).stem for name in images} == {*folders} - left
    told = ", ".join(f"{one}/labels" for one in sorted(left))
    assert str(found).endswith(f"not read, since {tmp_path}/data.yaml names others: {told}")


@pytest.mark.parametrize(
    ("files", "images", "names", "kinds"),
    [
        ({"labels/a.txt": OUTLINE, "classes.txt": "cat\ndog\n"}, ["images/a.png"], ("cat", "dog"), set()),
        ({"labels/a.txt": OUTLINE, "labels/classes.txt": "cat\n"}, ["images/a.png"], ("cat",), set()),
        ({"obj_train_data/a.txt": OUTLINE, "obj.names": "cat\n"}, ["obj_train_data/a.png"], ("cat",), set()),
        ({"labels/a.txt": OUTLINE, "data.yaml": "nc: 1\nnames: [cat]"}, ["images/a.png"], ("cat",), set()),
        (
            {"labels/a.txt": OUTLINE, "data.yaml": "train: elsewhere/pictures\nnames: [cat]"},
            ["images/a.png"],
            ("cat",),
            set(),
        ),
        ({"labels/a.txt": OUTLINE}, ["images/a.png"], ("0",), {"yolo-no-names"}),
        ({"train/labels/a.txt": OUTLINE}, ["train/images/a.jpg"], ("0",), {"yolo-no-names"}),
        ({"labels/a.txt": OUTLINE}, ["a.png"], ("0",), {"yolo-no-names"}),
    ],
)
def test_label_files_are_found_without_a_yaml(tmp_path, files, images, names, kinds):
    data, met = read_one(put(tmp_path, files, *images))
    assert data.category_names == names
    assert len(data.labels) == 1
    assert set(met) == kinds


def test_folders_of_label_files_are_splits_by_their_names(tmp_path):
    files = {"labels/train/a.txt": OUTLINE, "labels/val/b.txt": OUTLINE}
    sources = yolo.find(put(tmp_path, files, "images/train/a.png", "images/val/b.png"))
    assert {source.part: list(yolo.read(source, Faults()).file_names) for source in sources} == {
        "train": ["a.png"],
        "val": ["b.png"],
    }


@pytest.mark.parametrize(
    "files",
    [
        {"notes/a.txt": "seen on Monday", "data.yaml": "a: 1"},
        {"a.txt": "12 apples and 3 pears and more"},
        {"data.yaml": "train: {epochs: 3}\nnames: [cat]"},
        {"data.yaml": "[" * 50_000},
        {"data.yaml": f"train: {'9' * 5000}\nnames: [cat]"},
        {"data.yaml": "a: &a [x, x]\nb: &b [*a, *a]\nnames: [cat]\n"},
        {"labels/a.txt": "0 0.5 0.5 nan 0.2"},
    ],
)
def test_other_text_files_are_not_taken_for_label_files(tmp_path, files):
    assert yolo.find(put(tmp_path, files, "a.png", "notes/a.png", "images/a.png")) == []


@pytest.mark.parametrize(
    ("line", "box", "kind"),
    [
        ("0 0.9 0.5 0.4 0.4", [14, 3, 6, 4], "yolo-outside"),
        ("0 -0.1 0.1 0.5 0.1 0.5 0.4", [0, 1, 10, 3], "yolo-outside"),
        ("0.0 0.5 0.5 0.2 0.4", [8, 3, 4, 4], None),
        ("0 0.5 0.5 0.2 0.4 0.93", [8, 3, 4, 4], "yolo-confidence"),
        (f"{OUTLINE} 0.75", [2, 1, 8, 3], "yolo-confidence"),
        ("0 0.1 0.1 0.5 0.1 0.1 0.1", [2, 1, 8, 0], None),
        ("0 5 5 2 4", None, "yolo-pixels"),
        ("0 120 40 300 40 300 80", None, "yolo-pixels"),
        ("0 0.1 0.2 0.3", None, "yolo-line"),
        ("cat 0.1 0.2 0.3 0.4", None, "yolo-line"),
        ("-1 0.1 0.2 0.3 0.4", None, "yolo-line"),
        ("0.5 0.1 0.2 0.3 0.4", None, "yolo-line"),
        ("9" * 400 + " 0.1 0.2 0.3 0.4", None, "yolo-line"),
        ("0 inf 0.2 0.3 0.4", None, "yolo-line"),
        ("1 0.5 0.5 0.3 0.4", None, "yolo-unlisted-class"),
    ],
)
def test_lines_that_are_unusual_are_read_or_named(tmp_path, line, box, kind):
    files = {"data.yaml": layout("images", "names: [cat]"), "labels/a.txt": f"{OUTLINE}\n{line}\n"}
    data, met = read_one(put(tmp_path, files, "images/a.png"))
    assert set(met) == ({kind} if kind else set())
    if box is None:
        assert len(data.labels) == 1
        assert met[kind].kind.severity is Severity.REFUSED
        assert "a.txt" in met[kind].sentence
    else:
        np.testing.assert_allclose(data.stated_boxes[1], box, rtol=0, atol=1e-5)


def test_a_confidence_is_kept_as_score(tmp_path):
    data, _ = read_one(put(tmp_path, {"labels/a.txt": f"{OUTLINE} 0.75"}, "images/a.png"))
    assert list(data.attributes) == ['{"score": 0.75}']


def test_an_image_that_cannot_be_read_is_left_out(tmp_path):
    folder = put(tmp_path, {"labels/a.txt": OUTLINE, "images/b.png": "no image"}, "images/a.png")
    data, met = read_one(folder)
    assert list(data.file_names) == ["a.png"]
    assert "b.png" in met["yolo-image"].sentence


def test_a_utf_16_label_file_is_read(tmp_path):
    folder = put(tmp_path, {"labels/b.txt": ""}, "images/a.png", "images/b.png")
    (tmp_path / "labels/a.txt").write_bytes(OUTLINE.encode("utf-16"))
    data, met = read_one(folder)
    assert len(data.labels) == 1
    assert met["not-utf-8"].count == 1


def test_the_parts_that_ultralytics_joins_come_back(tmp_path):
    """Two triangles and a line there and back, as its conversion of COCO writes them: with six digits."""
    line = "0 0.3 0.1 0.2 0.333333 0.1 0.1 0.3 0.1 0.6 0.1 0.9 0.1 0.9 0.5 0.6 0.1"
    data, _ = read_one(put(tmp_path, {"labels/a.txt": line}, "images/a.png"))
    parts = np.split(data.rings.points, data.rings.first[1:-1])
    np.testing.assert_allclose(sorted(part.mean(axis=0).round(2).tolist() for part in parts), [[4, 1.78], [16, 2.33]])
    assert data.flags.tolist() == [0]


def test_names_are_texts_and_not_what_aliases_make_of_them(tmp_path):
    bomb = "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9 if n else 'x'}]\n" for n in range(12))
    yaml = f"{bomb}train: images\nnames: [cat, *a11]\n"
    data, _ = read_one(put(tmp_path, {"data.yaml": yaml, "labels/a.txt": OUTLINE}, "images/a.png"))
    assert (data.category_names, data.labels.tolist()) == (("cat",), [1])


def test_a_label_file_that_cannot_be_opened_is_named(tmp_path):
    folder = put(tmp_path, {"labels/a.txt": OUTLINE}, "images/a.png", "images/b.png")
    (tmp_path / "labels/b.txt").symlink_to("nowhere")
    data, met = read_one(folder)
    assert list(data.file_names) == ["a.png"]
    assert f"the file {tmp_path / 'labels/b.txt'} cannot be read" in met["yolo-image"].sentence


def test_a_split_of_a_yaml_may_be_called_by_no_name_at_all(tmp_path):
    yaml = f"train: images\nval: {'x' * 300}\nnames: [cat]\n"
    data, _ = read_one(put(tmp_path, {"data.yaml": yaml, "labels/a.txt": OUTLINE}, "images/a.png"))
    assert len(data.labels) == 1


def test_a_list_of_images_may_name_folders_which_are_none(tmp_path):
    yaml = "train: list.txt\nnames: [cat]\n"
    files = {"data.yaml": yaml, "list.txt": "/\n/x\n..\nb\0c/d.png\nimages/a.png\n", "labels/a.txt": OUTLINE}
    data, met = read_one(put(tmp_path, files, "images/a.png"))
    assert [Path(name).name for name in data.file_names] == ["a.png"]
    assert "the image /x does not exist" in met["yolo-image"].sentence


@pytest.mark.parametrize("entry", ["/", "..", "../.."])
def test_a_folder_around_a_yaml_is_no_split(tmp_path, entry):
    yaml = f"train: images\nval: {entry}\nnames: [cat]\n"
    data, _ = read_one(put(tmp_path, {"data.yaml": yaml, "labels/a.txt": OUTLINE}, "images/a.png"))
    assert list(data.file_names) == ["a.png"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[yes, 1e3, 012, ~, 2026-11-30, '']", {0: "yes", 1: "1e3", 2: "012", 3: "~", 4: "2026-11-30", 5: ""}),
        ("{0: on, 1: 0x1F, [2]: cat, x: dog}", {0: "on", 1: "0x1F"}),
        ("&all [cat, *all, dog]", {0: "cat", 2: "dog"}),
        ("!!python/object/apply:os.getcwd []", {}),
    ],
)
def test_names_of_a_data_yaml_are_what_is_written(names, expected, tmp_path):
    (tmp_path / "data.yaml").write_text(f"nc: 6\nnames: {names}\n")
    assert read_layout(tmp_path / "data.yaml").names == expected


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        ("names: [cat, dog]\nnames: [dog, cat]", "yolo-key-twice", "`names` in lines 2 and 3"),
        ("names:\n  0: cat\n  0: dog", "yolo-key-twice", "`0` in lines 3 and 4"),
        ("nc: 2\nnames: [cat, dog]\nnc: 3", "yolo-key-twice", "`nc` in lines 2 and 4"),
        ("names: [cat, dog]\nnc: 3", "yolo-number-of-classes", "data.yaml: nc 3, 2 names"),
        ("names: [cat]\nnc: 2", "yolo-number-of-classes", "data.yaml: nc 2, 1 name"),
    ],
)
def test_a_data_yaml_that_contradicts_itself_is_told_with_both(tmp_path, content, kind, told):
    folder = put(tmp_path, {"data.yaml": layout("images", content), "labels/a.txt": OUTLINE}, "images/a.png")
    _, met = read_one(folder)
    assert met[kind].examples == [told]
    assert met[kind].kind.severity is (Severity.REFUSED if kind == "yolo-key-twice" else Severity.WARNING)


def test_a_data_yaml_may_say_the_same_twice(tmp_path):
    content = layout("images", "nc: 2\nnames: [cat, dog]\nnc: 2")
    folder = put(tmp_path, {"data.yaml": content, "labels/a.txt": OUTLINE}, "images/a.png")
    assert read_one(folder)[1] == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among files")
def test_pipes_in_the_place_of_label_files_are_not_waited_for(tmp_path):
    files = {"data.yaml": layout("images"), "labels/a.txt": OUTLINE}
    folder = put(tmp_path, files, "images/a.png", "images/b.png")
    os.mkfifo(tmp_path / "labels/b.txt")
    data, met = read_one(folder)
    assert list(data.file_names) == ["a.png"]
    assert "it is a pipe, a socket or a device" in met["yolo-image"].sentence
    os.mkfifo(tmp_path / "b.yaml")
    assert read_layout(tmp_path / "b.yaml") is None
