"""Headers of a split's images: what each file says before its pixels, or why it is no image."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import length_of, open_file, probe, refuse_broken
from maskrcnn.data.faults import Kind, Severity
from maskrcnn.data.header import Header
from maskrcnn.data.health.findings import Progress
from maskrcnn.data.image_names import MISSING_IMAGE

THREADS = 2 * (os.cpu_count() or 1)
"""Threads that read images: half of them wait for the disk."""
HEAD = 256
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
"""Last bytes of a whole file, by Pillow's name of its format."""

LEFT_OUT = "the image is left out"
EMPTY = Kind("image-empty-file", "images", Severity.REFUSED, "have a file without any content", LEFT_OUT)
PAGE = Kind("image-is-web-page", "images", Severity.REFUSED, "are a page or text that a failed download left", LEFT_OUT)
POINTER = Kind("image-is-pointer", "images", Severity.REFUSED, "are a mere pointer of Git LFS or git-annex", LEFT_OUT)
UNREADABLE = Kind("image-unreadable", "images", Severity.REFUSED, "cannot be decoded", LEFT_OUT)
CUT_OFF = Kind("image-cut-off", "images", Severity.REFUSED, "are cut off", LEFT_OUT)


@dataclass(frozen=True)
class Seen:
    """What one file says."""

    header: Header | None
    bytes: int
    kind: Kind | None = None
    """Why it is no image; None where it is one."""
    reason: str = ""
    """The same as a sentence."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What the files of a split's images say, in the order of its images."""

    paths: list[Path]
    seen: list[Seen]

    @property
    def usable(self) -> Bool[np.ndarray, " n"]:
        return np.array([one.kind is None for one in self.seen], bool)

    @property
    def sizes(self) -> Int64[np.ndarray, "n 2"]:
        """(height, width), upright; 0 where a file is no image."""
        return np.array([one.header.size if one.header else (0, 0) for one in self.seen], np.int64).reshape(-1, 2)

    @property
    def stored_sizes(self) -> Int64[np.ndarray, "n 2"]:
        """(height, width) before the turn that EXIF asks for; 0 where a file is no image."""
        found = [one.header.stored_size if one.header else (0, 0) for one in self.seen]
        return np.array(found, np.int64).reshape(-1, 2)


def survey(data: Dataset, progress: Progress | None = None) -> Survey:
    """Read the header and the end of each image's file, in threads. The images lie on disk."""
    assert isinstance(data.images, Path), "headers are read of files on disk"
    paths = [data.images / name for name in data.file_names]
    seen = []
    with ThreadPoolExecutor(THREADS) as pool:
        for one in pool.map(look, paths, chunksize=16):
            seen.append(one)
            if progress is not None:
                progress(len(seen), len(paths))
    return Survey(paths, seen)


def look(path: Path) -> Seen:
    """Read the header of an image's file. One that lacks its end is decoded: some cameras write on behind it."""
    num_bytes = -1
    try:
        with open_file(path) as file:
            num_bytes = length_of(file)
        header = probe(path)
    except FileNotFoundError as error:
        return Seen(None, -1, MISSING_IMAGE, str(error))
    except (OSError, ValueError) as error:
        return Seen(None, num_bytes, _kind_of(path, num_bytes), str(error))
    if not _has_end(path, header.format, num_bytes):
        try:
            refuse_broken(path)
        except (OSError, ValueError) as error:
            return Seen(header, num_bytes, CUT_OFF, str(error))
    return Seen(header, num_bytes)


def _kind_of(path: Path, num_bytes: int) -> Kind:
    """What a file is that is no image."""
    if num_bytes == 0:
        return EMPTY
    try:
        with open_file(path) as file:
            head = file.read(HEAD)
    except OSError:
        return UNREADABLE
    if head.startswith(b"version https://git-lfs") or b"/annex/objects/" in head:
        return POINTER
    return PAGE if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{")) else UNREADABLE


def _has_end(path: Path, format: str, num_bytes: int) -> bool:
    end = ENDS.get(format, b"")
    with open_file(path) as file:
        file.seek(max(0, num_bytes - len(end)))
        return file.read() == end
