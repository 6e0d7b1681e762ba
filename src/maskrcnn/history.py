"""`metrics.jsonl`: a run's numbers, one object a line, which ends in the sum of what stands before it.

Rows are of a window of steps
    {"step", "epoch", "lr", "losses": {name: mean}, "counts": {name: mean}, "total", "images_per_second",
     "waiting": share of the time in which the model waited for images, "seconds": since training began or went on,
     "seconds_left": of the time that was given, if one was}
or of an evaluation: {"step", "epoch", "evaluation": {"bbox": {name: score}, "segm": {name: score}}}. The last field of
each, "crc32", is not in the rows that are read. Rows that were written before there were sums lack it.
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from warnings import warn

import msgspec

from maskrcnn.sentences import Note, counted, some_of

SUM = b',"crc32":'
"""What stands between a row and the sum of its bytes so far."""
OF_STEPS = {"step", "epoch", "lr", "losses", "total", "images_per_second"}
OF_AN_EVALUATION = {"step", "epoch", "evaluation"}


def line_of(row: Mapping[str, Any]) -> bytes:
    r"""A row as a line of the file.

    >>> line_of({"step": 1})
    b'{"step":1,"crc32":399293824}\n'
    """
    content = msgspec.json.encode(row)[:-1]
    return b"%b%b%d}\n" % (content, SUM, zlib.crc32(content))


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of the file, none where there is no file; lines that are not what was written are left out, and told."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    rows = list(_rows(lines if lines[-1] else lines[:-1]))
    damaged = [number for number, row in enumerate(rows, 1) if row is None]
    if damaged:
        told = counted(len(damaged), "lines are not what was written and are left out")
        warn(f"{path}: {told}: {'line' if len(damaged) == 1 else 'lines'} {some_of(damaged)}", Note, stacklevel=2)
    return [row for row in rows if row is not None]


def _rows(lines: list[bytes]) -> Iterator[dict[str, Any] | None]:
    """Each row, None for a damaged one; after the first sum, a row without one has lost it."""
    summed = False
    for line in lines:
        content, mark, stated = line.rpartition(SUM)
        summed = summed or bool(mark)
        if mark:
            yield _decoded(content + b"}") if stated == b"%d}" % zlib.crc32(content) else None
        else:
            yield None if summed else _decoded(line)


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return row if OF_STEPS.issubset(row) or OF_AN_EVALUATION.issubset(row) else None
