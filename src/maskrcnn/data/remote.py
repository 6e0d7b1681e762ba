"""Splits of which something lies in a store or on a web server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco
from maskrcnn.storage.fetch import fetch_file, fetch_folder, first_there, refuse_missing
from maskrcnn.storage.location import Location, at


def read_split(dataset_dir: str, img_dir: str, anno_path: str, *, copied: bool) -> Dataset:
    """Read a split. Its annotation file is copied here, and compared with the store's each time.

    dataset_dir, img_dir, anno_path   as the recipe's; the last two may be addresses of their own
    copied                            whether images are copied as well, or stay where they are
    Raises FileNotFoundError, PermissionError, ConnectionError or ValueError: one sentence with what to do.
    """
    root = at(dataset_dir)
    annotations, images = _annotations(root, anno_path), _below(root, img_dir)
    if isinstance(images, Path):
        return coco.read(annotations, images)
    data = coco.read(annotations)
    names = coco.names_of_files(data)
    if copied:
        return replace(data, images=fetch_folder(images, names))
    refuse_missing(images, names)
    return replace(data, images=images)


def _annotations(root: Path | Location, name: str) -> Path:
    """The annotation file, or a copy of it."""
    candidates = [_below(root, one) for one in _spellings(name)]
    return fetch_file(first_there(candidates) or candidates[0])


def _spellings(name: str) -> Iterator[str]:
    """A name, then the other of `annotation/` and `annotations/`."""
    yield name
    first, slash, rest = name.partition("/")
    if slash and first in coco.EITHER:
        yield f"{coco.EITHER[first]}/{rest}"


def _below(root: Path | Location, name: str) -> Path | Location:
    return at(name) if "://" in name else root / name
