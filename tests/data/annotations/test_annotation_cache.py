import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn import files
from maskrcnn.data.annotations import annotation_cache, column_file, fingerprint
from maskrcnn.data.formats import coco
from maskrcnn.masks import Rings

SOURCE = Path(__file__).parents[3] / "src"
fcntl = pytest.importorskip("fcntl", reason="this system has no locks on files")


@pytest.fixture
def split(write_split, annotate):
    rows = [
        annotate(5, 2, segmentation={"size": [50, 45], "counts": [100, 30, 2120]}),
        annotate(6, 1, category_id=3, bbox=[1, 2, 30.5, 10], segmentation=[[1, 2, 3.25, 4, 5, 6, 1, 9], [1, 2]]),
        annotate(4, 2, iscrowd=1, segmentation=None),
        annotate(9, 1, bbox=[100, 2, 3, 4]),
    ]
    return write_split(rows, sizes=[(40, 60), (50, 45), (30, 31)])


def forbid(monkeypatch):
    """From now on nothing may be parsed."""

    def refuse(*_):
        raise AssertionError("the annotation file was parsed")

    monkeypatch.setattr(annotation_cache, "read_content", refuse)


def count(monkeypatch):
    """The annotation files parsed from now on."""
    parsed, parse = [], annotation_cache.read_content

    def read_content(text, path, *others):
        parsed.append(path)
        return parse(text, path, *others)

    monkeypatch.setattr(annotation_cache, "read_content", read_content)
    return parsed


def kept(cache):
    """All but remembered fingerprints, which are written where a file has not been changed for some time."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".memory")


def assert_same(first, second):
    for field in fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        pairs = zip(ours, theirs, strict=True) if isinstance(ours, Rings) else [(ours, theirs)]
        for one, other in pairs:
            if isinstance(one, np.ndarray):
                assert (one.dtype, one.shape) == (other.dtype, other.shape), field.name
                assert np.array_equal(one, other), field.name
            else:
                assert one == other, field.name


def test_a_second_open_parses_nothing_and_finds_the_same(split, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(annotation_cache, "SMALL", 1 << 20)
        parsed = coco.read(*split)
    assert not cache.exists(), "a small file leaves nothing"
    cold = coco.read(*split)
    forbid(monkeypatch)
    warm = coco.read(*split)
    assert len(parsed.notes) == 4
    assert len(parsed.remarks) == 1
    assert_same(parsed, cold)
    assert_same(cold, warm)


@pytest.mark.parametrize(
    ("folder", "split"), [("coco_mini", "train2017"), ("coco_mini", "val2017"), ("nuclei", "train"), ("nuclei", "val")]
)
def test_real_data_are_the_same_from_the_cache(shared_data, folder, split, cache, monkeypatch):
    paths = coco.find_split(shared_data / folder, split, f"annotations/instances_{split}.json")
    cold = coco.read(*paths)
    forbid(monkeypatch)
    assert_same(cold, coco.read(*paths))


def test_the_arrays_lie_in_the_file_and_torch_takes_them_without_a_warning(split, cache):
    data = coco.read(*split)
    assert not data.boxes.flags.owndata
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(data.boxes).add_(1)
    assert coco.read(*split).boxes[0, 0] == 1, "who changes an array changes a copy of its own"


def test_entries_lie_where_weights_are_cached(monkeypatch, tmp_path):
    for name in ("MASKRCNN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
        assert annotation_cache.folder() == files.cache_folder() / "annotations"
        assert tmp_path / name in annotation_cache.folder().parents
        monkeypatch.delenv(name)


@pytest.mark.parametrize("settled", [2.0, -1.0])
def test_an_edited_file_of_the_same_length_and_time_is_read_anew(split, cache, settled, monkeypatch):
    monkeypatch.setattr(fingerprint, "SETTLED", settled)
    annotations, images = split
    before, state = coco.read(*split), annotations.stat()
    time.sleep(0.02)  # more than a tick of the system's clock
    text = annotations.read_text().replace('"cat"', '"cow"')
    annotations.write_text(text)
    os.utime(annotations, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = annotations.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (state.st_ino, state.st_size, state.st_mtime_ns)
    assert (before.category_names, coco.read(annotations, images).category_names) == (("cat", "cup"), ("cow", "cup"))


def test_a_copy_elsewhere_is_known_and_named(split, cache, monkeypatch, tmp_path):
    coco.read(*split)
    copy = tmp_path / "copy.json"
    copy.write_bytes(split[0].read_bytes())
    forbid(monkeypatch)
    assert coco.read(copy, split[1]).annotations == copy
    (split[1] / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2\.png of image 2 \(1 of 3 .*copy\.json names it"):
        coco.read(copy, split[1])


def test_a_file_that_is_replaced_while_it_is_read_leaves_no_entry_under_a_wrong_name(split, cache, monkeypatch):
    annotations = split[0]
    old, new = annotations.read_text(), annotations.read_text().replace('"cat"', '"cow"')
    load = annotation_cache.load

    def load_later(entry):
        annotations.write_text(new)
        return load(entry)

    monkeypatch.setattr(annotation_cache, "load", load_later)
    assert coco.read(*split).category_names == ("cow", "cup")
    monkeypatch.setattr(annotation_cache, "load", load)
    annotations.write_text(old)
    assert coco.read(*split).category_names == ("cat", "cup")
    assert len(list(cache.glob("*.columns"))) == 2


def test_errors_are_the_same_with_a_warm_cache(split, cache):
    coco.read(*split)
    annotations, images = split
    with pytest.raises(FileNotFoundError, match=r"image folder .*elsewhere"):
        coco.read(annotations, images / "elsewhere")
    annotations.write_text(annotations.read_text()[:-20])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"instances\.json: is not complete JSON"):
            coco.read(*split)
    annotations.unlink()
    with pytest.raises(FileNotFoundError, match=r"instances\.json does not exist; .* holds cache/, pictures/"):
        coco.read(*split)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "longer", "other"])
def test_a_damaged_entry_is_made_again(split, cache, damage, monkeypatch):
    before = coco.read(*split)
    (entry,) = cache.glob("*.columns")
    whole = entry.read_bytes()
    broken = {
        "empty": b"",
        "cut": whole[:-1000],
        "changed": whole[:700] + bytes([whole[700] ^ 1]) + whole[701:],
        "longer": whole + b"\0",
        "other": b"x" * len(whole),
    }[damage]
    entry.unlink()  # as long as the first one is mapped, its bytes are left alone
    entry.write_bytes(broken)
    parsed = count(monkeypatch)
    assert_same(before, coco.read(*split))
    assert_same(before, coco.read(*split))
    assert len(parsed) == 1
    assert entry.read_bytes() == whole
    assert kept(cache) == [entry.name, "lock"]


def test_an_entry_of_another_format_is_not_read(split, cache, monkeypatch):
    coco.read(*split)
    parsed = count(monkeypatch)
    monkeypatch.setattr(annotation_cache, "FORMAT", annotation_cache.FORMAT + 1)
    coco.read(*split)
    coco.read(*split)
    assert len(parsed) == 1
    assert len(list(cache.glob("*.columns"))) == 2


def test_the_format_is_raised_when_the_columns_change(split, cache):
    """Where this fails, raise FORMAT: entries that people have say something else than the code now would."""
    coco.read(*split)
    (entry,) = cache.glob("*.columns")
    found = hashlib.sha256(entry.read_bytes()).hexdigest()
    assert (annotation_cache.FORMAT, found[:16]) == (6, "34571acd6a83aa25")


PROCESS = """
import sys, time
from pathlib import Path
from maskrcnn.data.annotations import annotation_cache, column_file

annotation_cache.SMALL = 0
folder, path = Path(sys.argv[1]), Path(sys.argv[2])
parse = annotation_cache.read_content

def read_content(text, path, *others):
    with (folder / "parsed").open("a") as log:
        log.write("once\\n")
    time.sleep(0.5)
    return parse(text, path, *others)

annotation_cache.read_content = read_content
{before}
print("ready", flush=True)
sys.stdin.readline()
columns = annotation_cache.packed(path)
print(columns.annotation_ids.tolist(), float(columns.points.sum()), columns.flags)
"""


def start(folder, path, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS.replace("{before}", before), str(folder), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def test_of_several_processes_one_parses_and_all_find_the_same(split, cache, tmp_path):
    processes = [start(tmp_path, split[0]) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert answers[0].startswith("[6, 9, 5, 4]")
    assert len(set(answers)) == 1
    assert (tmp_path / "parsed").read_text() == "once\n"
    assert [Path(name).suffix for name in kept(cache)] == [".columns", ""]


KILLED = """
import os, signal
from maskrcnn.data.annotations import column_file

def write(stream, content):
    stream.write(b"half of it")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)

column_file.write = write
"""


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_read(split, cache, tmp_path, monkeypatch):
    process = start(tmp_path, split[0], KILLED)
    process.communicate("\n")
    assert process.returncode == -signal.SIGKILL
    (part,) = cache.glob("*.part")
    assert part.read_bytes() == b"half of it"
    begin = time.monotonic()
    data = coco.read(*split)
    assert time.monotonic() - begin < annotation_cache.PATIENCE / 4, "the lock ended with its holder"
    assert data.annotation_ids.tolist() == [6, 9, 5, 4]
    assert part.exists(), "its writer might still be at work"
    monkeypatch.setattr(annotation_cache, "LEFT_BEHIND", -1.0)
    annotation_cache.remove_old(cache)
    assert [Path(name).suffix for name in kept(cache)] == [".columns", ""]


def test_who_waits_for_a_stuck_process_parses_at_last(split, cache, monkeypatch):
    monkeypatch.setattr(annotation_cache, "PATIENCE", 0.2)
    cache.mkdir(parents=True)
    with (cache / "lock").open("ab") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        assert coco.read(*split).annotation_ids.tolist() == [6, 9, 5, 4]
    assert len(list(cache.glob("*.columns"))) == 1


def test_on_a_system_without_locks_one_is_enough(split, cache, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    cold = coco.read(*split)
    forbid(monkeypatch)
    assert_same(cold, coco.read(*split))


def test_without_locks_everyone_parses_and_the_last_to_finish_leaves_its_entry(split, cache, monkeypatch):
    def flock(stream, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    cold = coco.read(*split)
    forbid(monkeypatch)
    assert_same(cold, coco.read(*split))


def test_where_no_folder_can_be_made_one_sentence_says_so(split, cache, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file, where a folder is needed")
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "taken"))
    with pytest.warns(UserWarning, match=r"instances\.json is parsed anew .*Not a directory\); set MASKRCNN_CACHE"):
        data = coco.read(*split)
    assert data.annotation_ids.tolist() == [6, 9, 5, 4]


def test_a_user_without_a_home_is_told_the_same(split, cache, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MASKRCNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.warns(UserWarning, match=r"instances\.json is parsed anew"):
        assert coco.read(*split).annotation_ids.tolist() == [6, 9, 5, 4]


def test_a_full_disk_leaves_no_part_and_one_sentence(split, cache, monkeypatch):
    def write(stream, content):
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(column_file, "write", write)
    with pytest.warns(UserWarning, match=r"instances\.json is parsed anew .*No space left on device\)"):
        data = coco.read(*split)
    assert data.annotation_ids.tolist() == [6, 9, 5, 4]
    assert kept(cache) == ["lock"]


def test_a_folder_that_cannot_be_written_is_read(split, cache, monkeypatch):
    cold = coco.read(*split)
    for name in ("replace", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, lambda *_, **__: pytest.fail("the folder was changed"))
    monkeypatch.setattr(os, "utime", lambda *_: exec("raise PermissionError"))
    forbid(monkeypatch)
    assert_same(cold, coco.read(*split))


def test_entries_opened_longest_ago_are_removed_but_not_while_they_are_mapped(split, cache, monkeypatch, write_split):
    def entries():
        return {path for path in cache.iterdir() if path.suffix == ".columns"}

    data, known = {}, {}
    for name in ("ant", "bee", "cow"):
        before = entries() if cache.exists() else set()
        paths = write_split([], categories=[{"id": 1, "name": name}])
        data[name] = coco.read(*paths)
        (known[name],) = entries() - before
    for age, name in enumerate(("bee", "cow", "ant")):
        os.utime(known[name], (1e9 - age, 1e9 - age))
    monkeypatch.setattr(annotation_cache, "MOST", known["bee"].stat().st_size)
    annotation_cache.remove_old(cache)
    assert entries() == set(known.values()), "all are mapped"
    del data["ant"]
    annotation_cache.remove_old(cache)
    assert entries() == {known["bee"], known["cow"]}
    data.clear()
    annotation_cache.remove_old(cache)
    assert entries() == {known["bee"]}


def test_where_open_files_cannot_be_removed_old_entries_are_not_opened_first(split, cache, monkeypatch):
    coco.read(*split)
    opened, removed = [], []
    monkeypatch.setattr(Path, "open", lambda path, *_: opened.append(path))
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.suffix))
    monkeypatch.setattr(annotation_cache, "HAS_LOCKS", False)
    monkeypatch.setattr(annotation_cache, "MOST", 0)
    annotation_cache.remove_old(cache)
    assert (opened, removed) == ([], [".columns"])


def test_an_entry_that_is_opened_becomes_young(split, cache):
    coco.read(*split)
    (entry,) = cache.glob("*.columns")
    os.utime(entry, (1e9, 1e9))
    coco.read(*split)
    assert time.time() - entry.stat().st_mtime < 60
