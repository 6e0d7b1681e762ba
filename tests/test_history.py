"""Lines of metrics.jsonl are what was written, or are left out and told."""

import json
import random
import warnings

import pytest

from maskrcnn.history import line_of, read_history
from maskrcnn.sentences import Note

STEPS = {"step": 10, "epoch": 1, "lr": 0.01, "losses": {"a": 0.5}, "counts": {}, "total": 0.5, "images_per_second": 2.0}
ROWS = [STEPS, {"step": 10, "epoch": 1, "evaluation": {"bbox": {"AP": 0.25}}}, STEPS | {"step": 20}]
WHOLE = b"".join(map(line_of, ROWS))


def read(path) -> tuple[list[dict], list[str]]:
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        return read_history(path), [str(note.message) for note in notes]


def test_rows_come_back_as_they_were(tmp_path):
    (tmp_path / "a").write_bytes(WHOLE)
    assert read(tmp_path / "a") == (ROWS, [])
    assert read(tmp_path / "none") == ([], [])


def test_rows_of_earlier_versions_have_no_sum_and_are_read(tmp_path):
    (tmp_path / "a").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert read(tmp_path / "a") == (ROWS, [])
    with (tmp_path / "a").open("ab") as file:
        file.write(WHOLE)
    assert read(tmp_path / "a") == ([*ROWS, *ROWS], [])


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"nothing", b'{"step": 3, "epoch": 1, "evaluatiom": {}}', b"\xff"])
def test_what_is_no_row_is_left_out_and_told_with_its_number(line, tmp_path):
    (tmp_path / "a").write_bytes(line + b"\n" + WHOLE)
    told = f"{tmp_path}/a: 1 line is not what was written and is left out: line 1"
    assert read(tmp_path / "a") == (ROWS, [told])


def test_a_row_whose_sum_was_lost_among_others_is_left_out(tmp_path):
    (tmp_path / "a").write_bytes(line_of(ROWS[0]) + WHOLE.replace(b"crc32", b"crc22"))
    rows, told = read(tmp_path / "a")
    assert (rows, told[0].partition("a: ")[2]) == (
        ROWS[:1],
        "3 lines are not what was written and are left out: lines 2, 3, 4",
    )


def test_it_is_told_once(tmp_path):
    (tmp_path / "a").write_bytes(b"{}\n" + WHOLE)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("default")
        for _ in range(2):
            read_history(tmp_path / "a")
    assert [note.category for note in notes] == [Note]


def test_of_60_flipped_bits_and_20_cuts_none_is_used_in_silence(tmp_path):
    draw = random.Random(17)
    for number in range(80):
        content = bytearray(WHOLE)
        if number < 60:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        (tmp_path / "a").write_bytes(content)
        rows, told = read(tmp_path / "a")
        known = [{name: row[name] for name in row if name in STEPS or name == "evaluation"} for row in rows]
        assert all(row in ROWS for row in known)
        assert told or len(rows) == 3 or bytes(content) in (WHOLE, *(WHOLE[:end] for end in range(len(WHOLE))))
