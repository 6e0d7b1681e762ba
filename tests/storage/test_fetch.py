"""Copies of remote files: complete, verified, shared, gone on with, and brought anew when the store has others."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from maskrcnn.storage import copies, fetch
from maskrcnn.storage.fetch import exists, fetch_file, fetch_folder
from maskrcnn.storage.location import at

BIG = random.Random(0).randbytes(3 * copies.PART + 1000)
FAULTY = {"drop", "cut", "error", "corrupt"}


def quiet(_):
    pass


def some_of_the_time(*kinds, seed=0, share=0.3):
    """A fault for a part of all requests, the same ones in each run of one thread."""
    dice, lock = random.Random(seed), threading.Lock()

    def fault(request):
        with lock:
            return dice.choice(kinds) if dice.random() < share else ""

    return fault


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def pictures(store):
    """Three hundred small objects, some in folders, with markers of folders as consoles make them."""
    found = {f"{'' if number % 3 else 'sub/'}{number:03}.jpg": os.urandom(number + 1) for number in range(300)}
    for name, content in found.items():
        store.put(f"data/{name}", content)
    store.put("data/", b"")
    store.put("data/sub/", b"")
    store.put("database/other.jpg", b"no")
    return found


def test_a_file_on_disk_is_itself(tmp_path):
    assert fetch_file(tmp_path / "x") == tmp_path / "x"
    assert fetch_file(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert fetch_folder(str(tmp_path)) == tmp_path


def test_a_file_is_copied_once(store, cache):
    store.put("a/b c#%41+é.json", b"content")
    said = []
    path = fetch_file("obs://bucket/a/b c#%41+é.json", say=said.append)
    assert (path.name, path.read_bytes()) == ("b c#%41+é.json", b"content")
    assert path.is_relative_to(cache / "remote")
    assert fetch_file("obs://bucket/a/b c#%41+é.json", say=said.append) == path
    assert [one.verb for one in store.requests] == ["HEAD", "GET", "HEAD"]
    assert said == [f"copying obs://bucket/a/b c#%41+é.json (1 of 1 files, 0.0 MB) to {path.parent}"]


def test_an_object_that_changed_is_copied_anew(store):
    store.put("x.json", b"first")
    path = fetch_file("obs://bucket/x.json", say=quiet)
    store.put("x.json", b"again")  # as long
    assert fetch_file("obs://bucket/x.json", say=quiet).read_bytes() == b"again" == path.read_bytes()


def test_a_copy_that_somebody_changed_is_made_anew(store):
    store.put("x.json", b"first")
    path = fetch_file("obs://bucket/x.json", say=quiet)
    path.write_bytes(b"oops!")
    assert fetch_file("obs://bucket/x.json", say=quiet).read_bytes() == b"first"
    path.unlink()
    assert fetch_file("obs://bucket/x.json", say=quiet).read_bytes() == b"first"


def test_a_folder_is_copied_with_its_folders_and_without_its_neighbours(store, pictures):
    folder = fetch_folder("obs://bucket/data", say=quiet)
    assert contents(folder) == pictures
    asked = len(store.requests)
    assert fetch_folder("obs://bucket/data/", say=quiet) == folder
    assert len(store.requests) == asked + 1  # the list


def test_some_files_of_a_folder(store, pictures):
    wanted = ["001.jpg", "sub/003.jpg"]
    folder = fetch_folder("obs://bucket/data", wanted, say=quiet)
    assert sorted(contents(folder)) == wanted
    with pytest.raises(FileNotFoundError, match=r"obs://bucket/data lacks none\.jpg \(1 of 2 files are missing\)"):
        fetch_folder("obs://bucket/data", ["001.jpg", "none.jpg"], say=quiet)


def test_what_is_not_there_is_told_with_its_neighbours(store, pictures):
    with pytest.raises(FileNotFoundError, match=r"data/x\.jpg does not exist; obs://bucket/data holds 001\.jpg, "):
        fetch_file("obs://bucket/data/x.jpg", say=quiet)
    with pytest.raises(FileNotFoundError, match=r"obs://bucket/dat holds nothing; obs://bucket holds data/001\.jpg"):
        fetch_folder("obs://bucket/dat", say=quiet)
    with pytest.raises(FileNotFoundError, match=r"obs://none/a/x\.jpg does not exist; .* there is no bucket none; "):
        fetch_file("obs://none/a/x.jpg", say=quiet)
    assert (exists("obs://bucket/data/001.jpg"), exists("obs://bucket/data/x.jpg")) == (True, False)


def test_a_large_file_comes_in_parts_at_once(store):
    store.put("big", BIG)
    assert fetch_file("obs://bucket/big", say=quiet).read_bytes() == BIG
    assert sorted(one.range for one in store.asked("GET")) == sorted(
        f"bytes={start}-{min(start + copies.PART, len(BIG)) - 1}" for start in range(0, len(BIG), copies.PART)
    )


def test_a_large_file_is_gone_on_with(store, cache, monkeypatch):
    store.put("big", BIG)
    store.fault = lambda request: "drop" if request.range.startswith(f"bytes={2 * copies.PART}-") else ""
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0.2")
    with pytest.raises(ConnectionError, match=r"reading obs://bucket/big: the connection was lost.*is kept"):
        fetch_file("obs://bucket/big", say=quiet)
    assert not list(cache.rglob("big"))  # it is not there before it is whole
    store.fault, store.requests = lambda request: "", []
    assert fetch_file("obs://bucket/big", say=quiet).read_bytes() == BIG
    assert len(store.asked("GET")) < 4
    assert not list(cache.rglob("*.part*"))


def test_parts_of_two_contents_are_not_glued(store, monkeypatch):
    store.put("big", BIG)
    store.fault = lambda request: "drop" if request.range.startswith("bytes=0-") else ""
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0.2")
    with pytest.raises(ConnectionError):
        fetch_file("obs://bucket/big", say=quiet)
    store.fault = lambda request: ""
    store.put("big", BIG[::-1])
    assert fetch_file("obs://bucket/big", say=quiet).read_bytes() == BIG[::-1]


@pytest.mark.parametrize("kind", sorted(FAULTY))
def test_broken_answers_do_not_spoil_a_copy(store, pictures, kind):
    store.put("data/big", BIG)
    store.fault = some_of_the_time(kind, share=0.05 if kind == "corrupt" else 0.2)  # each file has five tries
    assert contents(fetch_folder("obs://bucket/data", say=quiet)) == {**pictures, "big": BIG}


def test_a_store_that_always_sends_something_else_is_told(store):
    store.put("x", b"0123456789" * 3)
    noise = iter(range(10**6))
    store.fault = lambda request: store.put("y", b"%d" % next(noise)) or ""
    real = store.things["bucket", "x"]

    def lie(request):
        if request.verb == "GET":  # another content under the same mark each time
            store.things["bucket", "x"] = real._replace(content=b"%030d" % next(noise))
        return ""

    store.fault = lie
    with pytest.raises(ConnectionError, match=r"copying obs://bucket/x: 5 copies in a row were not the 30 bytes"):
        fetch_file("obs://bucket/x", say=quiet)


def test_a_mark_that_only_looks_like_a_digest_is_told_by_a_further_copies(store):
    for name, content in (("small", b"encrypted"), ("big", BIG)):
        store.put(name, content, etag="0" * 32)
        assert fetch_file(f"obs://bucket/{name}", say=quiet).read_bytes() == content
    assert len(store.asked("GET", "small")) == copies.SAME


def test_a_folder_of_marks_that_are_no_digests_is_not_copied_three_times(store):
    for number in range(200):
        store.put(f"data/{number}", b"%d" % number, etag=f"{number:032}")
    fetch_folder("obs://bucket/data", say=quiet)
    assert len(store.asked("GET", "data/")) < 200 + copies.SAME * copies.PARALLEL


def test_where_marks_are_digests_one_that_is_none_is_told_by_three_copies(store):
    store.put("data/1", b"1")
    fetch_folder("obs://bucket/data", say=quiet)
    store.put("data/2", b"22", etag="0" * 32)
    store.put("data/3", b"333")
    assert contents(fetch_folder("obs://bucket/data", say=quiet)) == {"1": b"1", "2": b"22", "3": b"333"}


def test_a_server_that_is_killed_and_started_again_is_waited_for(store, pictures):
    store.latency = 0.01
    seen = threading.Event()
    store.fault = lambda request: seen.set() or "" if request.number > 100 else ""

    def restart():
        seen.wait()
        store.kill()
        time.sleep(1.0)
        store.fault = lambda request: ""
        store.start()

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    assert contents(fetch_folder("obs://bucket/data", say=quiet)) == pictures
    thread.join()


CHILD = """
import sys
from maskrcnn.storage.fetch import fetch_folder
print(len(list(fetch_folder(sys.argv[1], say=lambda _: None).rglob("*.jpg"))), flush=True)
"""


def test_a_copy_that_was_killed_goes_on_where_it_was(store, cache, pictures):
    store.latency = 0.05
    with subprocess.Popen([sys.executable, "-c", CHILD, "obs://bucket/data"], stdout=subprocess.PIPE) as child:
        while len(store.asked("GET", "data/")) < 100:
            time.sleep(0.01)
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    store.latency, before = 0.0, len(store.asked("GET", "data/"))
    assert contents(fetch_folder("obs://bucket/data", say=quiet)) == pictures
    assert not [path for path in cache.rglob("*.new") if path.is_file()]
    again = len(store.asked("GET", "data/")) - before
    assert again <= 300 - 100 + 2 * copies.PARALLEL


def test_processes_that_ask_at_once_copy_once(store, pictures):
    command = [sys.executable, "-c", CHILD, "obs://bucket/data"]
    store.latency = 0.02
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [int(child.communicate(timeout=60)[0]) for child in children] == [300, 300]
    assert len(store.asked("GET", "data/")) == 300


def test_without_the_store_the_copies_are_taken(store, pictures, monkeypatch):
    monkeypatch.setattr(fetch, "OFFLINE_PATIENCE", 0.2)
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0.2")
    file = fetch_file("obs://bucket/data/001.jpg", say=quiet)
    folder = fetch_folder("obs://bucket/data", say=quiet)
    store.kill()
    said = []
    assert fetch_file("obs://bucket/data/001.jpg", say=said.append) == file
    assert fetch_folder("obs://bucket/data", say=said.append) == folder
    assert fetch_folder("obs://bucket/data", ["001.jpg", "002.jpg"], say=said.append) == folder
    assert ["meanwhile the copy of" in one for one in said] == [True] * 3
    with pytest.raises(ConnectionError, match="nobody answers at the server's address"):
        fetch_file("obs://bucket/data/never.jpg", say=quiet)


def test_the_same_name_in_another_store_is_another_copy(store, monkeypatch):
    store.put("x", b"here")
    one = fetch_file("obs://bucket/x", say=quiet)
    monkeypatch.setenv("OBS_ENDPOINT", "http://obs.cn-south-1.myhuaweicloud.test")
    monkeypatch.setattr("maskrcnn.storage.fetch.head", lambda *_: None)
    with pytest.raises(FileNotFoundError):
        fetch_file("obs://bucket/x", say=quiet)
    assert one.read_bytes() == b"here"


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", ".."])
def test_names_that_lead_elsewhere_are_refused(store, name):
    from maskrcnn.storage.mirror import Mirror

    with pytest.raises(ValueError, match="cannot be a file here"):
        Mirror(at("obs://bucket/data")).path(name)


def test_a_full_disk_is_told_before_anything_is_copied(store, pictures, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("", (), {"free": 10})())
    with pytest.raises(OSError, match=r"are to be copied.*data\.remote=stream"):
        fetch_folder("obs://bucket/data", say=quiet)
    assert not store.asked("GET", "data/")


def test_digests_are_those_of_the_content(store):
    store.put("x", b"content")
    assert store.things["bucket", "x"].etag == hashlib.md5(b"content").hexdigest()
