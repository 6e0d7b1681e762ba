"""What is written to a terminal: names that come from files cannot command it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from maskrcnn.sentences import in_lines


class Guarded:
    """A stream of text that writes what a terminal would obey as it is written in Python; all else is the stream's."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text. Returns the number of its letters."""
        self.stream.write(in_lines(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """While a program runs, guard what it prints, its warnings and its errors."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and Guarded(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def bare(stream: Any) -> Any:
    """The stream that is guarded, for what commands a terminal on purpose, such as a bar; names in it are guarded by
    whoever writes them."""
    return stream.stream if isinstance(stream, Guarded) else stream
