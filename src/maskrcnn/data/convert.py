"""A data set written in another format, its images included."""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from maskrcnn.config import Data
from maskrcnn.data.classes import choose_classes, tidy_names, unite_classes
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import shards
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.recognise import recognise
from maskrcnn.data.split import read_parts
from maskrcnn.files import filling
from maskrcnn.sentences import counted, some_of, typed
from maskrcnn.storage.location import Location, at, local

RENAMED = "classes get another name, without line breaks, blanks in a row and blanks at the ends"
MOST_RENAMED = 3
"""New names that are told."""


def convert_data(settings: Data, form: str, dest: Path, shard_size: int | None = None) -> Iterator[str]:
    """Write all splits of a data set to a folder; yields what was read, what gets lost, and what was written.

    form         a name of `FORMATS`
    shard_size   images of a tar, with `shards`; None: as that format writes them
    Splits keep their images; a data set without a validation split stays one, and `maskrcnn data split` divides it.
    Raises ValueError where the folder is not empty or lies in the data set's own, and what reading raises.
    """
    if shard_size is not None and form != "shards":
        raise ValueError(f"{typed('--shard-size')} has no effect with {typed('--to')} {form}; leave it out")
    write = FORMATS[form].write if shard_size is None else partial(shards.write, size=shard_size)
    _refuse_inside(settings, dest)
    if dest.exists() and any(dest.iterdir()):
        raise ValueError(f"{dest} is not empty; give a new folder")
    splits, said = read_parts(settings)
    yield from said
    splits = dict(zip(splits, unite_classes(list(splits.values())), strict=True))
    splits = {name: choose_classes(data, settings.classes) for name, data in splits.items()}
    splits, renamed = tidy_names(splits)
    if renamed:
        pairs = some_of([f"{old!r} becomes {new!r}" for old, new in renamed.items()], MOST_RENAMED)
        yield f"lost: {counted(len(renamed), RENAMED)}: {pairs}"
    for data in splits.values():
        yield from (f"note: {remark}" for remark in data.notes)
    with filling(dest):
        yield from (f"lost: {sentence}" for sentence in write(splits, dest))
    title = FORMATS[form].title
    yield f"written to {dest}: {title}; read: {_size(splits.values())}; written: {_size(_read_again(dest, form))}"


def _read_again(dest: Path, form: str) -> list[Dataset]:
    """What was written, as it is read; nothing where it holds too little to be recognised."""
    try:
        return [FORMATS[form].read(source, Faults()) for source in recognise(dest, form).sources]
    except (OSError, ValueError):
        return []


def _size(splits: Collection[Dataset]) -> str:
    images, objects = (sum(len(getattr(data, name)) for data in splits) for name in ("image_ids", "labels"))
    return f"{counted(images, 'images')}, {counted(objects, 'objects')}"


def _refuse_inside(settings: Data, dest: Path) -> None:
    """Raise ValueError where a folder lies in one that is read: what is written there would be read the next time."""
    for folder in (settings.dataset_dir, *settings.also):
        if not isinstance(at(folder), Location) and dest.resolve().is_relative_to(local(folder).resolve()):
            raise ValueError(f"{dest} lies in the data set's own folder {folder}; give a folder outside it")
