"""Rows of predictions, one for each image, as lines of JSON or as a table in Parquet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import msgspec

Form = Literal["jsonl", "parquet"]
Row = dict[str, Any]
AT_ONCE = 1024
"""Rows of a group in a Parquet file."""
MISSING_EXTRA = "writing Parquet needs the package pyarrow: pip install 'maskrcnn[parquet]', or leave --format out"


@contextmanager
def writer(stream: IO[bytes], form: Form) -> Iterator[Callable[[Row], None]]:
    """A function that writes rows to a stream. Raises ValueError where the package for Parquet is missing."""
    if form == "jsonl":
        yield lambda row: _write_line(stream, row)
        return
    pyarrow, parquet = _packages()
    rows: list[Row] = []
    with parquet.ParquetWriter(stream, _schema(pyarrow)) as table:

        def write(row: Row) -> None:
            rows.append(row)
            if len(rows) == AT_ONCE:
                put()

        def put() -> None:
            if rows:
                table.write_table(pyarrow.Table.from_pylist(rows, _schema(pyarrow)))
            rows.clear()

        yield write
        put()


def read_rows(stream: IO[bytes], form: Form) -> Iterator[Row]:
    """Yield the rows of a file. Raises ValueError where it is none."""
    if form == "jsonl":
        for line in stream:
            if not line.endswith(b"\n"):
                raise ValueError(f"expected whole lines of JSON, received {line[:40]!r} without an end")
            yield msgspec.json.decode(line, type=Row)
        return
    _, parquet = _packages()
    for batch in parquet.ParquetFile(stream).iter_batches():
        yield from ({key: value for key, value in row.items() if value is not None} for row in batch.to_pylist())


def check_form(form: Form) -> None:
    """Raise ValueError where a form cannot be written here."""
    if form == "parquet":
        _packages()


def _write_line(stream: IO[bytes], row: Row) -> None:
    stream.write(msgspec.json.encode(row) + b"\n")


def _packages() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(MISSING_EXTRA) from None
    return pyarrow, pyarrow.parquet


def _schema(pyarrow: Any) -> Any:
    """Columns of a table: those of a line, empty where a line lacks one."""
    number, text = pyarrow.int64(), pyarrow.string()
    lengths = pyarrow.struct([("size", pyarrow.list_(number)), ("counts", text)])
    thing = pyarrow.struct(
        [
            ("category", text),
            ("category_id", number),
            ("bbox", pyarrow.list_(pyarrow.float64())),
            ("score", pyarrow.float64()),
            ("segmentation", lengths),
        ]
    )
    columns = [("file", text), ("page", number), ("error", text), ("height", number), ("width", number)]
    return pyarrow.schema([*columns, ("objects", pyarrow.list_(thing))])
