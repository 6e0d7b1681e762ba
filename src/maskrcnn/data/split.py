"""The one door to the data of a recipe."""

from collections.abc import Callable
from typing import Literal

from maskrcnn.config import Data
from maskrcnn.data import remote
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco
from maskrcnn.storage.location import Location, at, local

Split = Literal["train", "val"]
OpenSplit = Callable[[Data, Split], Dataset]
"""Another reader in the place of `open_split`."""


def open_split(settings: Data, split: Split) -> Dataset:
    """Read the training or the validation split that a recipe's data settings name.

    Raises OSError or ValueError: one sentence with file, ids and what to do.
    """
    names = settings.train_img_dir, settings.train_anno_path
    if split == "val":
        names = settings.val_img_dir, settings.val_anno_path
    if any(isinstance(at(name), Location) for name in (settings.dataset_dir, *names)):
        return remote.read_split(settings.dataset_dir, *names, copied=settings.remote == "copy")
    return coco.read(*coco.find_split(local(settings.dataset_dir), *names))
