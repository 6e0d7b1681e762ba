import os
import time
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.annotations import fingerprint as module
from maskrcnn.data.annotations.fingerprint import fingerprint, of_file


def of(text: bytes) -> bytes:
    return fingerprint(BytesIO(text), len(text))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_one_changed_byte_always_shows(text, data):
    place = data.draw(st.integers(0, len(text) - 1))
    changed = bytearray(text)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert of(bytes(changed)) != of(text)


@settings(deadline=None)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_different_contents_differ(first, second):
    assert (of(first) == of(second)) == (first == second)


def test_zeros_at_the_end_and_exchanged_words_show():
    assert len({of(bytes(length)) for length in range(100)}) == 100
    assert of(b"a" * 8 + b"b" * 8) != of(b"b" * 8 + b"a" * 8)
    assert of(b"a" * 32 + b"b" * 32) != of(b"b" * 32 + b"a" * 32)


def test_every_block_counts_in_its_place(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 8)
    blocks = [bytes([number]) * 8 for number in range(30)]
    assert of(b"".join(blocks)) == of(b"".join(blocks))
    found = {of(b"".join([*blocks[:place], b"changed!", *blocks[place + 1 :]])) for place in range(30)}
    assert len(found | {of(b"".join(blocks)), of(b"".join(reversed(blocks)))}) == 32


def test_only_as_many_bytes_as_told_are_read():
    stream = BytesIO(b"abcdefgh")
    assert fingerprint(stream, 3) == of(b"abc")
    assert stream.read() == b"defgh"
    assert fingerprint(BytesIO(b"abc"), 9) == of(b"abc"), "a file may have become shorter"


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """Takes the fingerprint of a file, remembers it, and tells whether it had to be found."""
    monkeypatch.setattr(module, "SETTLED", -1.0)
    path, memory = tmp_path / "a.json", tmp_path / "below" / "a.memory"
    found = []

    def find(stream, length):
        found.append(length)
        return fingerprint(stream, length)

    monkeypatch.setattr(module, "fingerprint", find)

    def ask():
        found.clear()
        with path.open("rb") as stream:
            assert of_file(stream, memory) == of(path.read_bytes())
        return bool(found)

    path.write_bytes(b"what it says")
    return path, memory, ask


def test_a_fingerprint_is_remembered_until_the_file_changes(remembered):
    path, _, ask = remembered
    assert (ask(), ask()) == (True, False)
    time.sleep(0.02)  # more than a tick of the system's clock
    state = path.stat()
    path.write_bytes(b"what it SAYS")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (ask(), ask()) == (True, False)


def test_another_file_in_its_place_shows_whatever_its_times(remembered, tmp_path):
    path, _, ask = remembered
    assert (ask(), ask()) == (True, False)
    state = path.stat()
    (tmp_path / "other").write_bytes(b"what it SAYS")
    os.utime(tmp_path / "other", ns=(state.st_atime_ns, state.st_mtime_ns))
    (tmp_path / "other").replace(path)
    assert ask()


def test_a_file_that_has_just_changed_is_not_remembered(remembered, monkeypatch):
    _, memory, ask = remembered
    monkeypatch.setattr(module, "SETTLED", 60.0)
    assert (ask(), ask()) == (True, True)
    assert not memory.parent.exists()


def test_a_file_that_changes_meanwhile_is_not_remembered(remembered, monkeypatch):
    path, memory, _ = remembered

    def find(stream, length):
        path.write_bytes(b"what it says now")
        return fingerprint(stream, length)

    monkeypatch.setattr(module, "fingerprint", find)
    with path.open("rb") as stream:
        of_file(stream, memory)
    assert not memory.parent.exists()


@pytest.mark.parametrize("text", [b"", b"null", b'{"state":', b'{"state":{"number":1},"fingerprint":""}'])
def test_a_damaged_memory_is_written_again(remembered, text):
    _, memory, ask = remembered
    ask()
    memory.write_bytes(text)
    assert (ask(), ask()) == (True, False)
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


def test_what_cannot_be_remembered_is_found_each_time(remembered):
    _, memory, ask = remembered
    memory.parent.write_text("a file, where a folder is needed")
    assert (ask(), ask()) == (True, True)
