"""What annotations may say besides classes, boxes and outlines: keypoints, and fields of other makers."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import numpy as np
from jaxtyping import Float32
from msgspec import Raw, Struct

from maskrcnn.data.annotations.annotation_row import AnnotationEntry
from maskrcnn.data.faults import Kind, Severity

BAD_KEYPOINTS = Kind(
    "malformed-keypoints", "objects", Severity.REFUSED, "have malformed keypoints", "the keypoints are left out"
)
KNOWN = {*AnnotationEntry.__struct_fields__, "keypoints", "num_keypoints"}


class _Keypoints(Struct, gc=False):
    keypoints: list[float] | None = None


_rows, _row = msgspec.json.Decoder(list[_Keypoints]), msgspec.json.Decoder(_Keypoints)


def read_keypoints(
    rows: Sequence[Raw], names: Sequence[str], refuse: Callable[[int, Kind, str], None]
) -> Float32[np.ndarray, "n J 3"]:
    """The keypoints of some annotations; zeros where one has none.

    refuse   called with index, kind and sentence where keypoints cannot be read
    """
    found = np.zeros((len(rows), len(names), 3), np.float32)
    if not names:
        return found
    for index, points in enumerate(_points(rows, refuse)):
        if points and len(points) != 3 * len(names):
            refuse(
                index,
                BAD_KEYPOINTS,
                f"has {len(points)} numbers of keypoints, expected x, y and visibility of {len(names)}; "
                "correct or remove them",
            )
        elif points:
            with np.errstate(over="ignore"):
                found[index] = np.array(points).reshape(-1, 3)
    return found


def _points(rows: Sequence[Raw], refuse: Callable[[int, Kind, str], None]) -> list[list[float] | None]:
    """The numbers of every annotation's keypoints."""
    with suppress(msgspec.DecodeError):
        return [entry.keypoints for entry in _rows.decode(b"[" + b",".join(rows) + b"]")]
    found: list[list[float] | None] = []
    for index, row in enumerate(rows):
        try:
            found += [_row.decode(row).keypoints]
        except msgspec.DecodeError as error:
            found += [None]
            refuse(index, BAD_KEYPOINTS, f"has keypoints that cannot be read ({error}); correct or remove them")
    return found


def other_fields(row: Raw) -> bytes:
    """The fields of an annotation that are not `KNOWN`, as the text of an object; nothing where there are none."""
    fields = {key: value for key, value in msgspec.json.decode(row, type=dict[str, Raw]).items() if key not in KNOWN}
    return msgspec.json.encode(fields) if fields else b""
