"""Patterns mean the same objects of a store as they mean files on disk."""

from glob import glob

import pytest

from maskrcnn.data.sources import find_images, is_one_file
from maskrcnn.sentences import Note
from maskrcnn.storage.find import has_pattern, matching
from maskrcnn.storage.location import at

NAMES = ["a.jpg", "b.png", "c.txt", "sub/d.jpg", "sub/deep/e.jpg", "sub2/f.jpg", "x1/g.jpg"]


@pytest.fixture
def both(store, tmp_path):
    for name in NAMES:
        store.put(f"top/{name}", b"1")
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "top/*.jpg",
        "top/*/*.jpg",
        "top/**/*.jpg",
        "top/sub*/*",
        "top/[xy]?/*.jpg",
        "*/a.jpg",
        "top/**",
        "top/sub/**/e.jpg",
    ],
)
def test_patterns_mean_what_they_mean_on_disk(both, pattern):
    on_disk = {path for path in glob(pattern, root_dir=both, recursive=True) if (both / path).is_file()}
    assert {one.key for one in matching(at(f"obs://bucket/{pattern}"))} == on_disk
    assert on_disk


def test_folders_files_and_patterns_of_a_store(both):
    def found(*sources):
        return [str(one).removeprefix("obs://bucket/top/") for one in find_images(sources)]

    with pytest.warns(Note):
        assert found("obs://bucket/top") == ["a.jpg", "b.png"]
    assert found("obs://bucket/top/c.txt") == ["c.txt"]  # named outright
    assert found("obs://bucket/top/sub*/*.jpg", "obs://bucket/top/sub/d.jpg") == ["sub/d.jpg", "sub2/f.jpg"]
    with pytest.raises(FileNotFoundError, match=r"no images at obs://bucket/none; expected an image, a folder"):
        found("obs://bucket/none")


def test_a_folder_of_a_store_says_what_it_leaves_out_and_is_searched_below_on_request(both, store):
    with pytest.warns(Note, match=r"at obs://bucket/top: left out c\.txt \(read: "):
        found = find_images(["obs://bucket/top"], recursive=True)
    assert {str(one): str(name) for one, name in found.items()} == {
        f"obs://bucket/top/{name}": name for name in NAMES if name != "c.txt"
    }
    assert [one.key for one in find_images(["obs://bucket/top/x1"])] == ["top/x1/g.jpg"]
    for key in ("only/deep/a.jfif", "only/b.xyz"):
        store.put(key, b"1")
    with pytest.raises(FileNotFoundError, match=r"left out b\.xyz .*lie deeper, such as deep/a\.jfif, need"):
        find_images(["obs://bucket/only"])


def test_names_with_signs_of_a_pattern_can_be_named(store):
    keys = ["top/a[1].jpg", "top/a1.jpg", "[x]/b.jpg", "x/c.jpg"]
    for key in keys:
        store.put(key, b"1")

    def found(source):
        return [one.key for one in find_images([f"obs://bucket/{source}"])]

    assert found("top/a[1].jpg") == ["top/a[1].jpg"]
    assert found("top/a[1]*.jpg") == ["top/a1.jpg"]
    assert found("[x]") == ["[x]/b.jpg"]
    assert found("[x]/*") == ["x/c.jpg"]
    assert is_one_file("obs://bucket/top/a[1].jpg")
    assert not is_one_file("obs://bucket/top/a[0-9].jpg")


@pytest.mark.parametrize("source", ["hdfs://me:PASSWORD@host/x.jpg", "obs:/bucket/x.jpg"])
def test_unknown_addresses_are_no_paths(source):
    with pytest.raises(ValueError, match="expected a") as error:
        find_images([source])
    assert "PASSWORD" not in str(error.value)


def test_a_question_mark_of_the_web_is_no_pattern():
    assert not has_pattern(at("https://host/x.jpg?id=*"))
    assert has_pattern(at("s3://bucket/?.jpg"))
