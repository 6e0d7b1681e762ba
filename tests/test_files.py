"""A file is there whole, or as it was."""

import pytest

from maskrcnn.files import atomic_write, cache_folder, listing


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_takes_its_name_when_all_is_written(synced, tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text("old")
    with atomic_write(path, synced=synced) as draft:
        draft.write_text("new")
        assert draft.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text("old")

    def write():
        with atomic_write(path) as draft:
            draft.write_text("half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_at_the_same_time_do_not_meet(tmp_path):
    path = tmp_path / "numbers.json"
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the inner one was done first


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("MASKRCNN_CACHE", raising=False)
    assert cache_folder() == tmp_path / "user" / "maskrcnn"
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_a_folder_is_told_by_its_first_names(tmp_path):
    assert listing(tmp_path) == "nothing"
    (tmp_path / "weights").mkdir()
    for number in range(10, 23):
        (tmp_path / f"{number}.jpg").touch()
    names = ", ".join(f"{number}.jpg" for number in range(10, 22))
    assert listing(tmp_path) == f"{names} and 2 more"
