"""A file is there whole, or as it was."""

import threading

import pytest

from maskrcnn import files
from maskrcnn.files import atomic_write, cache_folder, listing, lock


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


@pytest.fixture
def two(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no locks on files")
    with (tmp_path / "lock").open("ab") as one, (tmp_path / "lock").open("ab") as other:
        yield one, other


def test_one_holds_a_lock_until_it_closes_the_file(two):
    one, other = two
    assert (lock(one), lock(other), lock(other, shared=True)) == (True, False, False)
    one.close()
    assert lock(other) is True


def test_several_share_a_lock(two):
    one, other = two
    assert (lock(one, shared=True), lock(other, shared=True), lock(other)) == (True, True, False)


def test_who_waits_has_the_lock_in_the_end(two):
    one, other = two
    lock(one)
    held = []
    waiting = threading.Thread(target=lambda: held.append(lock(other, wait=True)))
    waiting.start()
    waiting.join(0.05)
    assert held == []
    one.close()
    waiting.join()
    assert held == [True]


def test_a_system_without_locks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with (tmp_path / "lock").open("ab") as one:
        assert (lock(one), lock(one, shared=True), lock(one, wait=True)) == (None, None, None)
