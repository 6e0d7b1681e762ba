"""Many names as one array of bytes: no object of Python until somebody asks for one."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import SupportsIndex, overload

import numpy as np
from jaxtyping import Int64, UInt8


class Names(Sequence[str]):
    """A sequence of strings; name i is text[first[i] : first[i + 1]] in UTF-8."""

    def __init__(self, text: UInt8[np.ndarray, " T"], first: Int64[np.ndarray, " _"]) -> None:
        self.text, self.first = text, first

    @classmethod
    def pack(cls, names: Sequence[str]) -> "Names":
        return cls.join([name.encode() for name in names])

    @classmethod
    def join(cls, encoded: Sequence[bytes]) -> "Names":
        """Names that are encoded already."""
        lengths = np.array([0, *map(len, encoded)], np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.first) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[one] for one in chosen]
        return self.text[self.first[chosen] : self.first[chosen + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (name.decode() for name in self.encoded())

    def encoded(self) -> list[bytes]:
        """All names in UTF-8."""
        text = self.text.tobytes()
        return [text[start:stop] for start, stop in pairwise(self.first.tolist())]

    @property
    def may_climb(self) -> bool:
        """Whether any name might lead out of a folder: by `..`, or because it is a whole path."""
        text, starts = self.text.tobytes(), self.first[:-1]
        return b".." in text or b":" in text or bool((self.text[starts[starts < len(text)]] == ord("/")).any())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)
