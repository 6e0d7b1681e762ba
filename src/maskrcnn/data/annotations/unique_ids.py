"""Ids of annotations, which mean nothing but which one is meant: made unique where they are not."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from jaxtyping import Bool, Int64
from msgspec import Raw

from maskrcnn.data.annotations.spelling import Key, shown
from maskrcnn.data.faults import Faults, Kind, Severity

TWICE = Kind(
    "annotation-twice", "objects", Severity.NOTE, "are listed again with the same words; once counts", "once is kept"
)
SHARED_ID = Kind(
    "annotation-id-twice",
    "objects",
    Severity.NOTE,
    "have the id of another object; they are numbered anew",
    "they are numbered anew",
)
TEXT_ID = Kind(
    "annotation-ids-not-64-bit",
    "objects",
    Severity.NOTE,
    "have an id that is no whole number of 64 bits; they are numbered",
    "they are numbered",
)


def make_unique(
    ids: Int64[np.ndarray, " n"],
    odd: Mapping[int, str | None],
    usable: Bool[np.ndarray, " n"],
    rows: Sequence[Raw],
    faults: Faults,
) -> None:
    """Number objects without an id of their own after the largest, and drop what is listed again, in place.

    odd      ids that are no whole numbers of 64 bits, None where there is none, by row
    usable   becomes False for what is listed again
    rows     the text of all annotations
    """
    plain = usable.copy()
    plain[list(odd)] = False
    values, counts = np.unique(ids[plain], return_counts=True)
    repeated = plain & np.isin(ids, values[counts > 1]) if (counts > 1).any() else np.zeros_like(plain)
    suspects = sorted({*np.flatnonzero(repeated).tolist(), *(row for row in odd if usable[row])})
    if not suspects:
        return
    homeless = []
    seen: set[tuple[Key, bytes]] = set()
    owned: set[Key] = set()
    for row in suspects:
        key = odd[row] if row in odd else int(ids[row])
        if key is None:
            homeless.append(row)
            continue
        content = key, _content(rows[row])
        if content in seen:
            usable[row] = False
            faults.add(TWICE, f"annotation {shown(key)}")
        elif isinstance(key, str) or key in owned:
            homeless.append(row)
            faults.add(TEXT_ID if isinstance(key, str) else SHARED_ID, f"annotation {shown(key)}")
        owned.add(key)
        seen.add(content)
    settled = usable.copy()
    settled[homeless] = False
    ids[homeless] = _fresh(ids[settled], len(homeless))


def _content(row: Raw) -> bytes:
    """The same for all ways to write the same annotation."""
    try:
        return msgspec.json.encode(msgspec.json.decode(row), order="sorted")
    except (msgspec.DecodeError, RecursionError):
        return bytes(row)


def _fresh(taken: Int64[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " m"]:
    """Ids after the largest, or where there is no room, the smallest that are free."""
    largest = int(taken.max(initial=0))
    if largest + count < 2**63:
        return np.arange(largest + 1, largest + 1 + count)
    return np.setdiff1d(np.arange(1, len(taken) + count + 1), taken)[:count]
