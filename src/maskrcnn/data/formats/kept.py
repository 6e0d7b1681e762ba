"""Data sets of many small files, read once and then kept as columns."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from maskrcnn.data.annotations.annotation_cache import folder, identity, load_columns, save, turn
from maskrcnn.data.annotations.column_file import Value
from maskrcnn.data.annotations.fingerprint import SETTLED
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Fault, Faults
from maskrcnn.data.formats.source import Source
from maskrcnn.masks import Rings

FORMAT = 2
"""To be raised whenever the same label files lead to other columns."""
FEW = 1000
"""Files that are read as quickly as an entry would be found."""
ARRAYS = (
    "image_ids", "sizes", "first_object", "annotation_ids", "labels", "boxes", "areas", "crowd", "flags", "first_ring",
    "stated_boxes",
)  # fmt: skip
"""Columns of a data set that are kept as they are."""


def kept(
    source: Source, faults: Faults, files: Sequence[Path | str], read: Callable[[], Dataset], *, few: int | None = None
) -> Dataset:
    """What `read` gives and reports, from an entry of the cache where these files have been read before.

    files   label files and images; their names, sizes and times of change, and those of the file of class names, tell
            whether an entry still holds
    few     number of files below which nothing is kept; None: `FEW`
    """
    if len(files) < (FEW if few is None else few):
        return read()
    key, newest = _key(source, files if source.names is None else [*files, source.names])
    if key is None or time.time() - newest / 1e9 < SETTLED:
        return read()
    entry = folder() / f"{key}-{FORMAT}.columns"
    seen = identity(entry)
    known = load_columns(entry)
    if known is None:
        with turn(entry, seen, load_columns) as known:
            if known is None:
                return _read_and_save(entry, faults, read)
    return _restored(source, faults, known)


def _key(source: Source, files: Sequence[Path | str]) -> tuple[str | None, int]:
    """(what names the entry, nanoseconds of the last change); nothing where a file is gone."""
    digest = hashlib.sha256(repr(source).encode("utf-8", "surrogateescape"))
    newest = 0
    try:
        for path in files:
            state = os.stat(path)
            changed = state.st_mtime_ns, state.st_ctime_ns if os.name == "posix" else 0
            newest = max(newest, *changed)
            digest.update(f"{path}\0{state.st_ino} {state.st_size} {changed}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        return None, 0
    return digest.hexdigest(), newest


def _read_and_save(entry: Path, faults: Faults, read: Callable[[], Dataset]) -> Dataset:
    data = read()
    with suppress(OSError):
        save(_columns(data, faults), entry)
    return data


def _columns(data: Dataset, faults: Faults) -> dict[str, Value]:
    """A data set and what was met, as a file of columns holds them."""
    names, attributes = Names.pack(data.file_names), Names.pack(data.attributes or ())
    known_files = Names.pack(data.known_files)
    columns: dict[str, Value] = {name: getattr(data, name) for name in ARRAYS}
    return columns | {
        "points": data.rings.points,
        "first_point": data.rings.first,
        "name_text": names.text,
        "first_letter": names.first,
        "known_text": known_files.text,
        "first_known": known_files.first,
        "attribute_text": attributes.text,
        "first_attribute": attributes.first,
        "category_ids": np.array(data.category_ids, np.int64),
        "category_names": data.category_names,
        "keypoints": np.zeros((0, 0, 3), np.float32) if data.keypoints is None else data.keypoints,
        "keypoint_names": data.keypoint_names,
        "faults": tuple(msgspec.json.encode(fault).decode() for fault in faults),
    }


def _restored(source: Source, faults: Faults, columns: dict[str, Any]) -> Dataset:
    for text in columns["faults"]:
        fault = msgspec.json.decode(text, type=Fault)
        faults.add(fault.kind, fault.examples, fault.sentence, count=fault.count)
    attributes = Names(columns["attribute_text"], columns["first_attribute"])
    return Dataset(
        annotations=source.labels,
        images=source.images,
        file_names=Names(columns["name_text"], columns["first_letter"]),
        known_files=Names(columns["known_text"], columns["first_known"]),
        rings=Rings(columns["points"], columns["first_point"]),
        category_ids=tuple(columns["category_ids"].tolist()),
        category_names=columns["category_names"],
        keypoints=columns["keypoints"] if columns["keypoint_names"] else None,
        keypoint_names=columns["keypoint_names"],
        attributes=attributes if len(attributes) else None,
        remarks=faults.notes(),
        **{name: columns[name] for name in ARRAYS},
    )
