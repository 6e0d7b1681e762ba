"""What annotations may say besides classes, boxes and outlines: keypoints, and fields of other makers."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float32, Int64
from msgspec import Raw, Struct

from maskrcnn.data.annotations.annotation_file import AnnotationEntry, CategoryEntry

KNOWN = {*AnnotationEntry.__struct_fields__, "keypoints", "num_keypoints"}


class _Keypoints(Struct, gc=False):
    keypoints: list[float] | None = None


_rows = msgspec.json.Decoder(list[_Keypoints])


def keypoint_names(categories: Sequence[CategoryEntry]) -> tuple[str, ...]:
    """The names that all categories with keypoints have; none where they differ: then no keypoints are read."""
    names = {tuple(category.keypoints) for category in categories if category.keypoints}
    return names.pop() if len(names) == 1 else ()


def read_keypoints(
    rows: Sequence[Raw], names: Sequence[str], ids: Int64[np.ndarray, " n"], path: Path
) -> Float32[np.ndarray, "n J 3"]:
    """The keypoints of some annotations; zeros where one has none. Raises ValueError, naming an annotation."""
    found = np.zeros((len(rows), len(names), 3), np.float32)
    if not names:
        return found
    try:
        entries = _rows.decode(b"[" + b",".join(rows) + b"]")
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{path}: among annotations {ids[0]} to {ids[-1]}: {error}; correct or remove these keypoints"
        ) from None
    for index, entry in enumerate(entries):
        if entry.keypoints and len(entry.keypoints) != 3 * len(names):
            raise ValueError(
                f"{path}: annotation {ids[index]} has {len(entry.keypoints)} numbers of keypoints, expected x, y and "
                f"visibility of {len(names)}; correct or remove them"
            )
        if entry.keypoints:
            found[index] = np.array(entry.keypoints).reshape(-1, 3)
    return found


def other_fields(row: Raw) -> bytes:
    """The fields of an annotation that are not `KNOWN`, as the text of an object; nothing where there are none."""
    fields = {key: value for key, value in msgspec.json.decode(row, type=dict[str, Raw]).items() if key not in KNOWN}
    return msgspec.json.encode(fields) if fields else b""
