import os
import time
from dataclasses import fields, replace

import numpy as np
import pytest

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats import kept as module
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.source import Source
from maskrcnn.masks import rings_from_polygons

ODD = Kind("odd-for-this-test", "objects", Severity.NOTE, "are odd")
BAD = Kind("bad-for-this-test", "objects", Severity.REFUSED, "are bad", "leaves them out")


@pytest.fixture
def files(tmp_path, new_cache, monkeypatch):
    """Two files that were written long ago, and a cache that keeps so few."""
    monkeypatch.setattr(module, "FEW", 0)
    monkeypatch.setattr(module, "SETTLED", 0.02)
    found = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in found:
        path.write_text("{}")
    time.sleep(0.05)
    return found


class Reader:
    """Opens a data set and counts how often it was read."""

    def __init__(self, root, files):
        self.source = Source("labelme", "train", root, root, "why")
        self.files, self.count = files, 0

    def open(self):
        faults = Faults()
        return kept(self.source, faults, self.files, lambda: self._read(faults)), faults

    def _read(self, faults) -> Dataset:
        self.count += 1
        faults.add(ODD, ["one", "two"], count=7)
        faults.add(BAD, "three", "three is bad")
        builder = Builder(self.source.labels, self.source.images, faults, ["cat", "dog"])
        image = builder.add_image("x/\u00e4.png", (10, 20))
        builder.add_image("b.png", (30, 40))
        builder.add_object(image, "dog", rings_from_polygons([[1, 1, 5, 1, 5, 4]]), attributes={"age": 3})
        builder.add_object(image, "cat", None, box=(1, 2, 3, 4), crowd=True)
        return replace(builder.dataset(), known_files=["masks/\u00e4.png"])


def assert_same(one: Dataset, other: Dataset) -> None:
    for field in fields(Dataset):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "rings":
            np.testing.assert_array_equal(a.points, b.points)
            np.testing.assert_array_equal(a.first, b.first)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        elif isinstance(a, list):
            assert a == list(b)
        else:
            assert a == b


def test_a_second_opening_reads_no_file_and_tells_the_same(tmp_path, files):
    reader = Reader(tmp_path, files)
    (first, met), (second, again) = reader.open(), reader.open()
    assert reader.count == 1
    assert_same(first, second)
    assert list(met) == list(again)


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "renamed", "classes"])
def test_any_change_of_a_file_leads_to_another_reading(tmp_path, files, change):
    reader = Reader(tmp_path, files)
    names = tmp_path / "classes.txt"
    names.write_text("cat")
    reader.source = replace(reader.source, names=names)
    time.sleep(0.05)
    reader.open()
    if change == "classes":
        names.write_text("dog")
    elif change == "content":
        files[0].write_text("[]")
    elif change == "time":
        os.utime(files[0], ns=(1, 1))
    elif change == "new":
        (tmp_path / "c.json").write_text("{}")
        reader.files = [*files, tmp_path / "c.json"]
    elif change == "gone":
        reader.files = files[:1]
    else:
        reader.files = [files[0], files[1].rename(tmp_path / "z.json")]
    time.sleep(0.05)
    reader.open()
    assert reader.count == 2


def test_few_files_and_files_just_written_are_read_each_time(tmp_path, files, monkeypatch, new_cache):
    monkeypatch.setattr(module, "SETTLED", 60)
    reader = Reader(tmp_path, files)
    reader.open(), reader.open()
    monkeypatch.setattr(module, "SETTLED", 0)
    monkeypatch.setattr(module, "FEW", 3)
    reader.open(), reader.open()
    assert reader.count == 4
    assert not (new_cache / "annotations").exists()


def test_a_damaged_entry_is_read_anew(tmp_path, files, new_cache):
    reader = Reader(tmp_path, files)
    reader.open()
    [entry] = (new_cache / "annotations").glob("*.columns")
    entry.write_bytes(entry.read_bytes()[:-1])
    reader.open()
    assert reader.count == 2


def test_a_cache_that_cannot_be_written_is_no_hindrance(tmp_path, files, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(files[0]))
    reader = Reader(tmp_path, files)
    assert len(reader.open()[0].labels) == 2
