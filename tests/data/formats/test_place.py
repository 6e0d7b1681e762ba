import os

import pytest
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.place import place


def data_set(root, names) -> Dataset:
    builder = Builder(root, root, Faults(), ["cat"])
    for number, name in enumerate(names):
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10), (number, 0, 0)).save(root / name)
        builder.add_image(name, (10, 20))
    return builder.dataset()


def test_names_and_subfolders_stay_and_no_byte_is_copied(tmp_path):
    data = data_set(tmp_path / "one", ["a.png", "x/a.png"])
    assert place(data, tmp_path / "two") == ["a.png", "x/a.png"]
    assert (tmp_path / "one/x/a.png").samefile(tmp_path / "two/x/a.png")


def test_images_are_copied_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    data = data_set(tmp_path / "one", ["a.png"])
    place(data, tmp_path / "two")
    assert (tmp_path / "two/a.png").read_bytes() == (tmp_path / "one/a.png").read_bytes()


@pytest.mark.parametrize(
    ("names", "by_stem", "placed"),
    [
        (["a.png", "A.PNG"], False, ["a.png", "A-2.PNG"]),
        (["a.png", "a-2.png", "a.png"], False, ["a.png", "a-2.png", "a-3.png"]),
        (["a.png", "a.jpg"], False, ["a.png", "a.jpg"]),
        (["a.png", "a.jpg"], True, ["a.png", "a-2.jpg"]),
        (["x/../../one/a.png"], False, ["x/one/a.png"]),
    ],
)
def test_no_two_images_share_a_file_and_none_leaves_the_folder(tmp_path, names, by_stem, placed):
    (tmp_path / "one/x").mkdir(parents=True)
    data = data_set(tmp_path / "one", names)
    assert place(data, tmp_path / "two", by_stem=by_stem) == placed
    assert sorted(path.name for path in tmp_path.rglob("two/**/*") if path.is_file()) == sorted(
        name.rpartition("/")[2] for name in placed
    )


def test_a_name_with_its_whole_path_is_put_by_its_last_word(tmp_path):
    data = data_set(tmp_path / "one", [str(tmp_path / "elsewhere/a.png")])
    assert place(data, tmp_path / "two") == ["a.png"]


def test_a_file_in_the_way_is_replaced_and_the_image_itself_is_not(tmp_path):
    data = data_set(tmp_path / "one", ["a.png"])
    (tmp_path / "two").mkdir()
    (tmp_path / "two/a.png").write_text("old")
    place(data, tmp_path / "two")
    place(data, tmp_path / "two")
    place(data, tmp_path / "one")
    assert Image.open(tmp_path / "two/a.png").size == (20, 10)


def test_a_missing_image_is_named(tmp_path):
    data = data_set(tmp_path / "one", ["a.png"])
    (tmp_path / "one/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png does not exist"):
        place(data, tmp_path / "two")


def test_a_name_that_is_no_text_becomes_one(tmp_path):
    data = data_set(tmp_path / "one", ["b\udcff.png"])
    assert place(data, tmp_path / "two") == ["b_.png"]


def test_a_name_that_is_too_long_is_told(tmp_path):
    data = data_set(tmp_path / "one", ["a.png"])
    with pytest.raises(
        OSError, match=r"the image a\.png cannot be written to .*x\.png \(File name too long\); give it"
    ):
        place(data, tmp_path / "two", moved=lambda name: f"{'x' * 300}.png")
