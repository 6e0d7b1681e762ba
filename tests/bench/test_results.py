"""Tables, and files that several benchmarks of one day share."""

import msgspec
import pytest

from maskrcnn.bench.results import Results, Section, add, table

FACTS = {"device": "NVIDIA H200", "date": "2026-11-27"}


def section(key, ms):
    return Section(key, f"The {key}", FACTS, [{"stage": "whole", "ms": ms, "ratio": None}], ["a note"])


def read(path):
    return msgspec.json.decode(path.read_bytes(), type=Results)


def test_a_second_benchmark_adds_its_tables_and_replaces_its_own(tmp_path):
    data, text = add(tmp_path / "new", [section("train", 1.0), section("ops", 2.0)])
    assert (data.name, text.name) == ("nvidia-h200-2026-11-27.json", "nvidia-h200-2026-11-27.md")
    add(tmp_path / "new", [section("predict", 3.0), section("train", 4.0)])
    found = [(one.key, one.rows[0]["ms"]) for one in read(data).sections]
    assert found == [("train", 4.0), ("ops", 2.0), ("predict", 3.0)]
    assert text.read_text().count("## The ") == 3
    assert sorted(path.name for path in data.parent.iterdir()) == [data.name, text.name]


def test_a_writer_that_fails_leaves_the_old_files(tmp_path, monkeypatch):
    data, text = add(tmp_path, [section("train", 1.0)])
    before = data.read_bytes(), text.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda self, target: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        add(tmp_path, [section("ops", 2.0)])
    assert (data.read_bytes(), text.read_bytes()) == before


def test_a_table_lines_up_and_says_what_it_does_not_know():
    rows = [{"stage": "whole step", "ms": 12.34}, {"stage": "RPN", "ms": None, "images/s": 5}]
    assert table(rows).splitlines() == [
        "| stage      |   ms | images/s |",
        "| ---------- | ---: | -------: |",
        "| whole step | 12.3 |        \N{EN DASH} |",
        "| RPN        |    \N{EN DASH} |        5 |",
    ]


def test_a_table_of_nothing_is_empty():
    assert table([]) == ""
