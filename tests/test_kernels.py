"""Compiled kernels are kept where that is possible, never trusted blindly, and done without elsewhere."""

import errno
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest

from maskrcnn import kernels
from maskrcnn.masks import bitmaps

COUNTS, PIXELS = np.array([2, 3, 1], np.uint32), [[0, 1, 1], [0, 1, 0]]


TELL = kernels.tell
"""What other tests do without."""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The usual folder and the temporary one; sentences are said anew."""
    if not hasattr(os, "getuid"):
        pytest.skip("this system's temporary folders are each user's own, and no kernels are kept there")
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "usual"))
    monkeypatch.setattr(kernels.tempfile, "gettempdir", lambda: str(tmp_path))
    kernels.say_once.cache_clear()
    kernels.announced.clear()
    monkeypatch.setattr(kernels, "tell", TELL)
    yield tmp_path / "usual" / "kernels", kernels._temporary_folder()
    kernels.say_once.cache_clear()


def compiled():
    """A kernel as a fresh process has it: (whether it was read from a file, what was said)."""
    fresh = kernels.kernel()(bitmaps._fill_runs.py_func)
    pixels = np.zeros((2, 3), np.uint8)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fresh(COUNTS, pixels)
    assert pixels.tolist() == PIXELS
    return bool(fresh.stats.cache_hits), [str(one.message) for one in said]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_kernel_is_compiled_once(places, capsys):
    usual, temporary = places
    assert compiled() == (False, [])
    assert compiled() == (True, [])
    assert len(files(usual)) == 1
    assert not temporary.exists()
    assert capsys.readouterr().err == "compiling kernels for this machine: some seconds\n"


def test_other_vectors_and_changed_sources_are_other_kernels(places, monkeypatch):
    compiled()
    monkeypatch.setattr(kernels, "VECTOR_WIDTH", 24 - kernels.VECTOR_WIDTH)
    assert compiled()[0] is False
    sources = kernels._source
    monkeypatch.setattr(kernels, "_source", lambda name: sources(name) + "#" * (name == "maskrcnn.kernels"))
    kernels.source_digest.cache_clear()
    assert compiled()[0] is False
    kernels.source_digest.cache_clear()


def test_what_a_kernels_file_imports_counts_as_its_source(monkeypatch):
    kernels.source_digest.cache_clear()
    before = kernels.source_digest("maskrcnn.ops.group_norm.cpu")
    sources = kernels._source
    monkeypatch.setattr(kernels, "_source", lambda name: sources(name) + "#" * (name == "maskrcnn.ops.bfloat16"))
    kernels.source_digest.cache_clear()
    assert kernels.source_digest("maskrcnn.ops.group_norm.cpu") != before
    kernels.source_digest.cache_clear()


@pytest.mark.parametrize(
    "keep", [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: content[:-1] + b"!"]
)
def test_a_damaged_file_is_compiled_anew_with_one_sentence(places, keep):
    usual, _ = places
    compiled()
    [path] = files(usual)
    whole = path.read_bytes()
    path.write_bytes(keep(whole))
    hit, said = compiled()
    assert not hit
    assert said == [f"a compiled kernel in {usual} is damaged; it is compiled anew"]
    assert compiled()[0] is True


def test_a_file_of_another_kind_is_compiled_anew(places):
    usual, _ = places
    compiled()
    [path] = files(usual)
    kernels.keep(path.name, b"no kernel")
    hit, said = compiled()
    assert not hit
    assert "cannot be used" in said[0]
    assert compiled() == (True, [])


def test_where_the_cache_cannot_be_a_folder_a_temporary_one_serves(places, tmp_path):
    _, temporary = places
    (tmp_path / "usual").write_text("a file")
    hit, [sentence] = compiled()
    assert not hit
    assert "cannot be kept in" in sentence
    assert f"are kept in {temporary}; MASKRCNN_CACHE names another folder" in sentence
    assert compiled() == (True, [])
    assert stat.S_IMODE(temporary.stat().st_mode) & 0o022 == 0


def test_on_a_full_disk_a_temporary_folder_serves(places, monkeypatch):
    usual, temporary = places
    write = Path.write_bytes

    def full(path, content):
        if usual in path.parents:
            write(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    hit, [sentence] = compiled()
    assert not hit
    assert "No space left on device" in sentence
    assert files(usual) == []
    assert len(files(temporary)) == 1
    assert compiled() == (True, [])


def test_where_nothing_can_be_kept_each_process_compiles(places, tmp_path):
    _, temporary = places
    (tmp_path / "usual").write_text("a file")
    temporary.write_text("a file")
    for said in (1, 0):
        hit, sentences = compiled()
        assert not hit
        assert len(sentences) == said
        assert all("each process compiles them" in sentence for sentence in sentences)


def test_a_folder_that_others_may_write_to_is_not_trusted(places):
    usual, temporary = places
    compiled()
    usual.chmod(0o777)
    hit, [sentence] = compiled()
    assert not hit
    assert "not this user's alone" in sentence
    assert len(files(temporary)) == 1


def test_a_user_without_a_home_has_a_temporary_folder(places, monkeypatch):
    _, temporary = places
    monkeypatch.delenv("MASKRCNN_CACHE")
    monkeypatch.setattr(kernels, "cache_folder", lambda: Path("~nobody-of-this-name").expanduser())
    hit, [sentence] = compiled()
    assert not hit
    assert sentence.startswith("compiled kernels cannot be kept in the cache folder of a user without a home and are ")
    assert len(files(temporary)) == 1
    temporary.rename(temporary.with_name("elsewhere"))
    temporary.symlink_to("elsewhere")  # where somebody else may put what is run
    hit, [sentence] = compiled()
    assert not hit
    assert "without a home: each process compiles them" in sentence


@pytest.mark.parametrize("setting", ["4", "sixteen", "8.0"])
def test_a_width_that_no_kernel_has_is_refused(setting, monkeypatch):
    monkeypatch.setenv(kernels.WIDTH_VARIABLE, setting)
    with pytest.raises(ValueError, match=f"MASKRCNN_VECTOR_WIDTH: expected 8 or 16, received '{setting}'"):
        kernels.vector_width()


def test_the_width_follows_the_processor_unless_told(monkeypatch):
    monkeypatch.delenv(kernels.WIDTH_VARIABLE, raising=False)
    for features, width in (({"avx512f": True}, 16), ({"avx512f": False}, 8), ({}, 8)):
        monkeypatch.setattr(kernels.llvmlite.binding, "get_host_cpu_features", lambda features=features: features)
        assert kernels.vector_width() == width
    monkeypatch.setenv(kernels.WIDTH_VARIABLE, "16")
    assert kernels.vector_width() == 16
