"""A file is there whole, or as it was."""

import errno
import os
import pickle
import shutil
import threading

import pytest

from maskrcnn import files
from maskrcnn.files import (
    DiskFull,
    append,
    atomic_write,
    cache_folder,
    check_room,
    digest,
    filling,
    fingerprint,
    listing,
    lock,
    writing,
)


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


@pytest.fixture
def a_disk_of_1000_bytes(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))


def test_room_is_asked_for_before_a_byte_is_written(tmp_path, a_disk_of_1000_bytes):
    check_room(tmp_path / "new" / "folder", 1000)
    with pytest.raises(DiskFull) as error, atomic_write(tmp_path / "numbers.json", needed=1001):
        pytest.fail("there is no room")
    assert str(error.value) == (
        f"{tmp_path}/numbers.json could not be written (No space left on device): 1,001 bytes needed, 1,000 bytes "
        "free; make room there, then run the command again"
    )
    assert error.value.errno == errno.ENOSPC
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_does_not_tell_its_size_is_believed_to_have_room(tmp_path, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(total=0, free=0))
    check_room(tmp_path, 1 << 60)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up_is_told_with_what_was_begun(number, tmp_path, a_disk_of_1000_bytes):
    (tmp_path / "numbers.json").write_text("old")

    def write():
        with atomic_write(tmp_path / "numbers.json") as draft:
            draft.write_text("begun")
            raise OSError(number, "what the system says")

    with pytest.raises(DiskFull, match=r"numbers\.json could not .*: more than 1,005 bytes needed, 1,005 bytes free;"):
        write()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_file_is_named_by_the_error_where_it_knows_it_else_the_folder(tmp_path):
    with pytest.raises(DiskFull, match=f"^{tmp_path}/labels could not"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "full", str(tmp_path / "labels"))
    with pytest.raises(DiskFull, match=f"^{tmp_path} could not"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "full")


def test_a_new_folder_that_finds_no_room_is_removed(tmp_path, a_disk_of_1000_bytes):
    def fill():
        with filling(tmp_path / "new"):
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "labels").write_text("begun")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(DiskFull, match=f"^{tmp_path}/new could not .*: more than 1,005 bytes needed, 1,005 bytes free"):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_nothing_is_added_to_a_pipe_which_might_wait_for_ever(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics\.jsonl cannot be written: it is a pipe, .*; remove it$"):
        append(tmp_path / "metrics.jsonl", b"one")


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    resource = pytest.importorskip("resource", reason="a limit for files is a matter of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    append(tmp_path / "log.txt", b"one\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, before[1]))
    try:
        with pytest.raises(DiskFull, match=r"log\.txt could not be written \(File too large\)"):
            append(tmp_path / "log.txt", b"two\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "log.txt").read_bytes() == b"one\n"


def test_errors_of_other_kinds_stay_what_they_are(tmp_path):
    for other in (PermissionError(errno.EACCES, "no"), RuntimeError("shapes differ"), OSError("encoder error -2")):
        with pytest.raises(type(other)) as error, writing(tmp_path):
            raise other
        assert error.value is other


@pytest.mark.parametrize("hidden", [RuntimeError("unexpected pos 64 vs 0"), OSError("encoder error -2")])
def test_a_library_that_hides_the_reason_is_seen_through_by_a_probe(hidden, tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

        def write(self, content):
            assert len(content) > 4096

    monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(DiskFull, match="No space left"), writing(tmp_path):
        raise hidden


def test_a_fingerprint_is_size_and_sum(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    begin = "ba7816bf"  # the example of FIPS 180
    assert fingerprint(tmp_path / "a")["size"] == 3
    assert fingerprint(tmp_path / "a")["sha256"].startswith(begin)
    assert digest({"b": 1, "a": [2]}) == digest({"a": [2], "b": 1}) != digest({"a": [2], "b": 2})
