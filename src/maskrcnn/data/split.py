"""The one door to the data of a recipe."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from msgspec import structs

from maskrcnn.config import Data
from maskrcnn.data import remote
from maskrcnn.data.annotations.inside import reading_within
from maskrcnn.data.classes import choose_classes, unite_classes
from maskrcnn.data.dataset import Dataset, select
from maskrcnn.data.division import divide, pick, read_split_file
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.formats.source import Source
from maskrcnn.data.health.near_duplicates import near_duplicates
from maskrcnn.data.image_file import allow_pixels
from maskrcnn.data.join import join
from maskrcnn.data.recognise import recognise
from maskrcnn.data.remote_shards import fetch_shards, holds_shards
from maskrcnn.run_folder import SPLIT
from maskrcnn.sentences import Note, counted, typed
from maskrcnn.storage.fetch import fetch_file
from maskrcnn.storage.location import Location, at, local

Split = Literal["train", "val", "all"]
OpenSplit = Callable[[Data, Split], Dataset]
"""Another reader in the place of `open_split`."""
NAMES = ("train_img_dir", "train_anno_path", "val_img_dir", "val_anno_path")
"""Settings that name the files of a data set in the COCO2017 layout."""
MOST_COMPARED = 20_000
"""Number of images up to which those that are nearly the same are looked for before some are set apart."""

MANY = 2_000
"""Number of images from which that takes a while, so that it is said."""


class Parts(NamedTuple):
    """What a recipe's data consist of."""

    train: list[Source]
    val: list[Source]
    """Empty where validation images are set apart from the others."""
    said: tuple[str, ...]
    """What each folder was recognised as, one sentence each."""
    test: list[Source]
    """Neither learnt nor scored; empty where they are all that there is, and the images to evaluate on."""

    @property
    def all(self) -> list[Source]:
        """Sources of all images that are learnt or scored."""
        return [*self.train, *self.val]


def open_split(settings: Data, split: Split) -> Dataset:
    """Read the training or the validation images that a recipe's data settings name, or that its folder holds, or all.

    Where there is no validation split, one is set apart, see `divide`; images that are nearly the same stay together.
    Raises OSError or ValueError: one sentence with file, ids and what to do.
    """
    with _allowed(settings):
        return choose_classes(_open(settings, split), settings.classes)


def is_named(settings: Data) -> bool:
    """Whether the data lie where the settings name them, or must; else they are recognised by what lies in the folder.

    They must where an address or a name other than the default is given.
    """
    if settings.format != "auto" or settings.also:
        return False
    has_names = any(getattr(settings, name) != getattr(Data(), name) for name in NAMES)
    root = at(settings.dataset_dir)
    if isinstance(root, Location):
        return has_names or not holds_shards(root)
    if has_names:
        return True
    try:
        for split in ("train", "val"):
            coco.find_split(local(settings.dataset_dir), *_names(settings, split))
    except (OSError, ValueError):
        return False
    return True


def find_parts(settings: Data) -> Parts:
    """Recognise what lies in the folders of a recipe's data. Raises FileNotFoundError where nothing is recognised."""
    folders = (settings.dataset_dir, *settings.also)
    found = [recognise(_here(folder, settings), settings.format) for folder in folders]
    train = [source for one in found for source in one.of("train", "")]
    val = [source for one in found for source in one.of("val")]
    test = [source for one in found for source in one.of("test")]
    if not train and not val:
        val, test = test, []
    return Parts(train, val, tuple(map(str, found)), test)


def _here(folder: str, settings: Data) -> Path:
    """A folder of this machine; tar shards of a store are copied. Raises ValueError for another address."""
    place = at(folder)
    if isinstance(place, Path) or settings.format not in ("auto", "shards") or not holds_shards(place):
        return local(folder)
    if settings.remote == "stream":
        raise ValueError(f"{place}: tar shards are copied before they are read; leave data.remote=stream out")
    return fetch_shards(place)


def open_validation(settings: Data, trained: Data) -> Dataset:
    """Read the validation images for weights that were trained on some data.

    Raises as `open_split`, and ValueError where images that were learnt from might be taken for others.
    """
    settings = with_split_of(settings, trained)
    if not has_validation(settings):
        raise ValueError(
            f"{settings.dataset_dir} has no validation images; name those that a run set apart by data.split_file="
            f"RUN/{SPLIT}, or score all images by `maskrcnn eval {settings.dataset_dir} {typed('--weights')} ...`"
        )
    return open_split(settings, "val")


def with_split_of(settings: Data, trained: Data) -> Data:
    """Data settings with the split that weights were trained with, where both are of the same folder."""
    if settings.split_file or (settings.dataset_dir, settings.also) != (trained.dataset_dir, trained.also):
        return settings
    return structs.replace(settings, split_file=trained.split_file)


def has_validation(settings: Data) -> bool:
    """Whether the data have validation images of their own, or a file says which they are."""
    return bool(settings.split_file) or is_named(settings) or bool(find_parts(settings).val)


def read_source(source: Source) -> Dataset:
    """Read a split. Raises ValueError where something in it can be neither learnt nor scored."""
    faults = Faults()
    data = FORMATS[source.format].read(source, faults)
    faults.refuse(source.labels)
    return data


def read_part(settings: Data, split: Literal["train", "val"], faults: Faults) -> Dataset | None:
    """Read a split as it lies there, nothing set apart and nothing chosen; None where the data have no such split.

    faults   gathers what is met; what can be neither learnt nor scored is left out
    Raises OSError or ValueError where nothing can be read.
    """
    with _allowed(settings):
        if is_named(settings):
            return _read_named(settings, split, faults)
        parts = find_parts(settings)
        sources = parts.train if split == "train" else parts.val
        return join([FORMATS[one.format].read(one, faults) for one in sources]) if sources else None


def read_parts(settings: Data) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Read every split of a recipe's data as it is, nothing set apart, by name, and tell what the data were taken for.

    A split whose name the data do not tell is called by an empty text.
    """
    with _allowed(settings):
        return _all_parts(settings)


def _all_parts(settings: Data) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    if is_named(settings):
        others: dict[str, Dataset] = {source.part: read_source(source) for source in _named_test(settings)}
        return {"train": _read_named(settings, "train"), "val": _read_named(settings, "val"), **others}, ()
    sources: dict[str, list[Source]] = {}
    parts = find_parts(settings)
    for source in (*parts.all, *parts.test):
        sources.setdefault(source.part, []).append(source)
    return {part: join([read_source(one) for one in group]) for part, group in sources.items()}, parts.said


@contextmanager
def _allowed(settings: Data) -> Iterator[None]:
    """While data are read, keep to what their settings allow: how large images are, and where they lie."""
    allow_pixels(settings.max_pixels)
    folders = [at(folder) for folder in (settings.dataset_dir, *settings.also)]
    with reading_within(None if settings.outside else [folder for folder in folders if isinstance(folder, Path)]):
        yield


def divide_all(settings: Data) -> tuple[Dataset, Dataset]:
    """Divide all images of a recipe's data into those to train on and those to evaluate on."""
    whole = open_split(settings, "all")
    apart = _set_apart(whole, settings)
    return select(whole, np.flatnonzero(~apart)), select(whole, np.flatnonzero(apart))


def _open(settings: Data, split: Split) -> Dataset:
    if is_named(settings):
        return _open_named(settings, split)
    parts = find_parts(settings)
    if split == "train" and not parts.train:
        raise ValueError(f"{parts.said[0]}: there is no training split, only one to evaluate on")
    if split == "all":
        return join([read_source(source) for source in parts.all])
    if settings.split_file:
        data = _pick(join([read_source(source) for source in parts.all]), settings, split)
        return _told(data, parts) if split == "train" else data
    if parts.val:
        sides = [join([read_source(source) for source in side]) for side in (parts.train, parts.val) if side]
        data = unite_classes(sides)[0 if split == "train" else -1]
        return _told(data, parts) if split == "train" else data
    data = _part(join([read_source(source) for source in parts.train]), settings, split)
    return _told(data, parts) if split == "train" else data


def _open_named(settings: Data, split: Split) -> Dataset:
    if settings.split_file or split == "all":
        whole = join([_read_named(settings, "train"), _read_named(settings, "val")])
        return whole if split == "all" else _pick(whole, settings, split)
    data = _read_named(settings, split)
    unused = _unused(_named_test(settings)) if split == "train" else ()
    return replace(data, remarks=(*data.remarks, *unused))


def _named_test(settings: Data) -> list[Source]:
    """The test split that lies beside the others in the COCO2017 layout; none where its images have no annotations."""
    names = (settings.dataset_dir, *(getattr(settings, name) for name in NAMES))
    if isinstance(at(names[0]), Location) or names[1:] != tuple(getattr(Data(), name) for name in NAMES):
        return []
    try:
        labels, images = coco.find_split(local(names[0]), "test2017", "annotations/instances_test2017.json")
    except OSError:
        return []
    return [Source("coco", "test", labels, images, f"{labels.name} lies beside the others")]


def _read_named(settings: Data, split: Split, faults: Faults | None = None) -> Dataset:
    names = _names(settings, split)
    if any(isinstance(at(name), Location) for name in (settings.dataset_dir, *names)):
        return remote.read_split(settings.dataset_dir, *names, copied=settings.remote == "copy")
    return coco.read(*coco.find_split(local(settings.dataset_dir), *names), faults)


def _names(settings: Data, split: Split) -> tuple[str, str]:
    if split == "train":
        return settings.train_img_dir, settings.train_anno_path
    return settings.val_img_dir, settings.val_anno_path


def _pick(whole: Dataset, settings: Data, split: Literal["train", "val"]) -> Dataset:
    path = fetch_file(settings.split_file)
    return pick(whole, split, read_split_file(path), path)


def _part(whole: Dataset, settings: Data, split: Literal["train", "val"]) -> Dataset:
    """The images that are set apart, or those that are left."""
    if split == "train" and not settings.val_share:
        return whole
    apart = _set_apart(whole, settings)
    data = select(whole, np.flatnonzero(apart == (split == "val")))
    told = (
        f"{np.count_nonzero(apart)} of {len(apart)} images set apart for validation (data.val_share="
        f"{settings.val_share:g}, data.split_seed={settings.split_seed}), since the data have no validation split"
    )
    return replace(data, remarks=(*data.remarks, told))


def _set_apart(whole: Dataset, settings: Data) -> Bool[np.ndarray, " N"]:
    """Which images are for validation."""
    return divide(whole, settings.val_share, settings.split_seed, alike(whole))


def alike(data: Dataset) -> Int64[np.ndarray, " N"] | None:
    """A number for each image, the same for images that are nearly the same; None where there are too many to look."""
    if not isinstance(data.images, Path) or len(data.image_ids) > MOST_COMPARED:
        return None
    return _alike(data.images, tuple(data.file_names))


@lru_cache(maxsize=4)  # both splits of a run, and its plan, ask for the same
def _alike(folder: Path, names: tuple[str, ...]) -> Int64[np.ndarray, " N"]:
    if len(names) >= MANY:
        warnings.warn(f"looking for images that are nearly the same among {len(names)}", Note, stacklevel=2)
    return near_duplicates([folder / name for name in names])


def _told(data: Dataset, parts: Parts) -> Dataset:
    return replace(data, remarks=(*parts.said, *_unused(parts.test), *data.remarks))


def _unused(sources: list[Source]) -> Iterator[str]:
    """What of a test split is told beside the images that are learnt."""
    if sources:
        try:
            count = sum(len(FORMATS[one.format].read(one, Faults()).image_ids) for one in sources)
        except (OSError, ValueError) as error:
            yield f"test: its images are not used, and cannot be read: {error}"
        else:
            yield f"test: {counted(count, 'images are not used')}"
