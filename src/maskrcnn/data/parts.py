"""Parts of images: read from a TIFF by themselves, cut from other images, which are decoded once and kept a while."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Shaped

from maskrcnn.data.decode import read_image
from maskrcnn.data.tiff_window import Header, can_be_cut, cut_out, read_header, rows_at_once

Part = tuple[int, int, int, int]
"""xyxy, whole pixels of the image."""
Size = tuple[int, int]
Pixels = Shaped[np.ndarray, "h w C"]
Decode = Callable[[bytes, Path, Size | None], Pixels]
"""Pixels of the bytes of a file, whose path messages name and whose (height, width) annotations state; not reduced."""
MOST_KEPT = 1 << 30
"""Bytes of decoded images that are kept; a single one may have more."""
MOST_AT_ONCE = 1 << 24
"""Pixels of the blocks of a part that are decoded at once."""
TIFFS = (".tif", ".tiff", ".btf", ".tf8")
"""Endings of TIFF files."""


class PartReader:
    """Reads parts of images, in any order and from several threads at once.

    The images that were used last are kept as long as they have `most_kept` bytes together, so that an image is not
    decoded once for each of its tiles.
    """

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self._most_kept = most_kept
        self._kept: OrderedDict[Path, Future[Pixels]] = OrderedDict()
        self._lock = Lock()

    def read(self, path: Path, part: Part, size: Size | None, decode: Decode) -> Pixels:
        """A part of an image.

        size   (height, width) of the whole image, as its annotations state it
        Raises FileNotFoundError or ValueError, which name the file.
        """
        x1, y1, x2, y2 = part
        window = read_window(path, part, size, decode)
        return self._whole(path, size, decode)[y1:y2, x1:x2] if window is None else window

    def _whole(self, path: Path, size: Size | None, decode: Decode) -> Pixels:
        with self._lock:
            known = self._kept.get(path)
            future = known or Future[Pixels]()
            self._kept[path] = future
            self._kept.move_to_end(path)
        if known is None:
            try:
                future.set_result(decode(read_image(path), path, size))
            except BaseException as error:  # which every thread that waits for it raises
                future.set_exception(error)
            self._forget()
        return future.result()

    def _forget(self) -> None:
        """Let go of the images that were not used for longest, and of those that could not be decoded."""
        with self._lock:
            done = {path: future for path, future in self._kept.items() if future.done()}
            for path in [path for path, future in done.items() if future.exception() is not None]:
                del self._kept[path], done[path]
            sizes = {path: future.result().nbytes for path, future in done.items()}
            for path in list(sizes)[:-1]:
                if sum(sizes.values()) > self._most_kept:
                    del self._kept[path], sizes[path]


def read_window(path: Path, part: Part, size: Size | None, decode: Decode) -> Pixels | None:
    """A part of a TIFF, of which nothing else is read; None where its blocks do not allow that, or it is no TIFF.

    Raises ValueError where the image has another size than its annotations state.
    """
    if not _may_be_tiff(path):
        return None
    with path.open("rb") as file:
        header = read_header(file)
        if header is None or not can_be_cut(header):
            return None
        if size not in (None, header.size):
            raise ValueError(
                f"the image {path} has (height, width) {header.size} but its annotations say {size}; correct the "
                "annotation file's height and width, or restore the image that was annotated"
            )
        pieces = []
        for strip in _strips(header, part):
            content, (x, y) = cut_out(file, header, strip)
            pieces.append(decode(content, path, None)[strip[1] - y : strip[3] - y, strip[0] - x : strip[2] - x])
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _strips(header: Header, part: Part) -> Iterator[Part]:
    """Yield parts of a part, from top to bottom, that are small enough to be decoded one after the other: blocks may be
    as wide as the image."""
    x1, y1, x2, y2 = part
    rows = rows_at_once(header, part, MOST_AT_ONCE)
    while y1 < y2:
        below = min(y2, (y1 // rows + 1) * rows)
        yield x1, y1, x2, below
        y1 = below


def window_size(path: Path) -> Size | None:
    """(height, width) of an image whose parts can be read by themselves; None of any other."""
    if not _may_be_tiff(path):
        return None
    with path.open("rb") as file:
        header = read_header(file)
    return header.size if header is not None and can_be_cut(header) else None


def _may_be_tiff(path: Path) -> bool:
    return path.suffix.lower() in TIFFS and path.is_file()
