import os
import warnings

import pytest
from PIL import Image

from maskrcnn.data.sources import SUFFIXES, find_images
from maskrcnn.sentences import Note, speaking


@pytest.fixture
def folder(tmp_path):
    names = ["b.png", "A.JPG", "c.jfif", "notes.txt", "x.xyz", ".hidden.jpg", "Thumbs.db", "day/d.avif", "day/n/e.tga"]
    for name in [*names, "__MACOSX/f.jpg", "day/._d.avif"]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def found(folder, **options):
    return [str(name) for name in find_images([folder], **options).values()]


def test_a_folder_says_what_it_leaves_out_and_that_images_lie_deeper(folder):
    with speaking({"a pattern with **": "--recursive"}), pytest.warns(Note) as told:
        assert found(folder) == ["A.JPG", "b.png", "c.jfif"]
    (note,) = [str(one.message) for one in told]
    assert note.startswith(f"in the folder {folder}: left out notes.txt, x.xyz (read: .jpg, .jpeg, ")
    assert note.endswith("); images that lie deeper, such as day/d.avif, need --recursive")


def test_folders_below_are_searched_on_request_with_names_from_the_top(folder):
    with pytest.warns(Note, match="left out notes.txt, x.xyz") as told:
        assert found(folder, recursive=True) == ["A.JPG", "b.png", "c.jfif", "day/d.avif", "day/n/e.tga"]
    assert "deeper" not in str(told[0].message)
    with pytest.warns(Note):
        assert found(folder, recursive=True, without=folder / "day" / "n") == ["A.JPG", "b.png", "c.jfif", "day/d.avif"]


def test_a_folder_of_images_alone_says_nothing(tmp_path):
    for name in ("a.jpg", ".DS_Store", "desktop.ini"):
        (tmp_path / name).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(tmp_path) == found(tmp_path, recursive=True) == ["a.jpg"]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "day" / "one").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no images in the folder [^;]*; expected an image, a folder"):
        found(tmp_path)
    (tmp_path / "a.xyz").touch()
    (tmp_path / "day" / "one" / "b.png").touch()
    with pytest.raises(FileNotFoundError, match=r"left out a\.xyz \(read: .*such as day/one/b\.png, need a pattern"):
        found(tmp_path)


def test_a_link_in_a_circle_gives_each_image_once(folder):
    (folder / "day" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "other").symlink_to(folder / "day" / "n", target_is_directory=True)
    with pytest.warns(Note):
        assert found(folder, recursive=True) == ["A.JPG", "b.png", "c.jfif", "day/d.avif", "day/n/e.tga"]


def test_what_is_no_file_is_not_opened(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "d.jpg")
    with pytest.warns(Note, match=r"left out c\.jpg, d\.jpg"):
        assert found(tmp_path) == ["a.jpg"]


def test_a_folder_that_may_not_be_read_is_told(folder, monkeypatch):
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("day"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.warns(Note, match=r"left out notes\.txt, x\.xyz, day \(may not be read\)"):
        assert found(folder, recursive=True) == ["A.JPG", "b.png", "c.jfif"]
    with pytest.raises(PermissionError):
        found(folder / "day")


@pytest.mark.parametrize("name", ["jfif", "jpe", "avif", "jp2", "j2k", "tga", "dib", "webp", "tif", "gif", "pbm"])
def test_what_counts_as_an_image_is_read_as_one(tmp_path, name):
    from maskrcnn.data.decode import decode

    path = tmp_path / f"a.{name}"
    Image.new("1" if name == "pbm" else "RGB", (40, 24), 1).save(path)
    assert path.suffix in SUFFIXES
    assert decode(path).shape == (24, 40, 3)
