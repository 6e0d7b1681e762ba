"""A data set as columns: one array per field, objects sorted by image, outlines packed.

A file of 860,000 objects becomes a few arrays that threads and processes share, instead of millions of Python objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from maskrcnn.masks import Rings


@dataclass(frozen=True)
class Dataset:
    """One split. Images stand in the order of the file, objects in the order of their images."""

    annotations: Path
    images: Path
    image_ids: Int64[np.ndarray, " N"]
    file_names: Sequence[str]
    """Below `images`."""
    sizes: Int64[np.ndarray, "N 2"]
    """(height, width) as the file states them: the frame of boxes and outlines."""
    first_object: Int64[np.ndarray, " N+1"]
    """Image i owns objects first_object[i] : first_object[i + 1]."""
    annotation_ids: Int64[np.ndarray, " O"]
    labels: Int64[np.ndarray, " O"]
    """1..K in ascending order of category ids."""
    boxes: Float32[np.ndarray, "O 4"]
    """xyxy."""
    crowd: Bool[np.ndarray, " O"]
    rings: Rings
    first_ring: Int64[np.ndarray, " O+1"]
    """Object o owns rings first_ring[o] : first_ring[o + 1]."""
    category_ids: tuple[int, ...]
    """In label order: label k has category_ids[k - 1]."""
    category_names: tuple[str, ...]
    notes: tuple[str, ...]
    """What was repaired or left out, one sentence each."""


def summary(data: Dataset) -> str:
    """What was read, for a person to check once at the start."""
    counts = np.bincount(data.labels, minlength=len(data.category_ids) + 1)[1:]
    empty = np.count_nonzero(np.diff(data.first_object) == 0)
    lines = [
        f"{data.annotations}: {len(data.image_ids)} images ({empty} without objects), {len(data.labels)} objects "
        f"({np.count_nonzero(data.crowd)} crowd regions), {len(data.category_ids)} categories",
        "  "
        + ", ".join(
            f"{name} (id {id}): {count}"
            for name, id, count in zip(data.category_names, data.category_ids, counts, strict=True)
        ),
    ]
    return "\n".join(lines + [f"  note: {note}" for note in data.notes])
