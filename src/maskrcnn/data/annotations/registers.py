"""Ids of images and categories, looked up and never computed with: whole numbers of 64 bits, or text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.annotations.spelling import Key

NOT_LISTED, LEFT_OUT = -1, -2


class Register(NamedTuple):
    """Where a file has what annotations name."""

    noun: str
    ids: Int64[np.ndarray, " n"]
    """Whole numbers, in ascending order."""
    indices: Int64[np.ndarray, " n"]
    """Where each is, or LEFT_OUT."""
    words: Mapping[str, int]
    """The same for ids that are text."""

    def find(self, wanted: Int64[np.ndarray, " m"], words: Mapping[int, str]) -> Int64[np.ndarray, " m"]:
        """Where the wanted ids are, NOT_LISTED or LEFT_OUT.

        words   the ids that are text, by their index in `wanted`
        """
        found = np.full(len(wanted), NOT_LISTED)
        if len(self.ids):
            nearest = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
            found = np.where(self.ids[nearest] == wanted, self.indices[nearest], NOT_LISTED)
        for row, word in words.items():
            found[row] = self.words.get(word, NOT_LISTED)
        return found


def register(noun: str, keys: Sequence[Key], left_out: Sequence[Key]) -> Register:
    """A register of some ids in their order, and of ids that are known but cannot be used."""
    pairs = [*((key, index) for index, key in enumerate(keys)), *((key, LEFT_OUT) for key in left_out)]
    numbers = [pair for pair in pairs if isinstance(pair[0], int)]
    ids = np.array([key for key, _ in numbers], np.int64)
    indices = np.array([index for _, index in numbers], np.int64)
    order = np.argsort(ids)
    words = {key: index for key, index in pairs if isinstance(key, str)}
    return Register(noun, ids[order], indices[order], words)
