"""The one door to the data of a recipe."""

from collections.abc import Callable
from typing import Literal

from maskrcnn.config import Data
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco

Split = Literal["train", "val"]
OpenSplit = Callable[[Data, Split], Dataset]
"""Another reader in the place of `open_split`."""


def open_split(settings: Data, split: Split) -> Dataset:
    """Read the training or the validation split that a recipe's data settings name.

    Raises FileNotFoundError or ValueError: one sentence with file, ids and what to do.
    """
    if split == "train":
        return coco.read(*coco.find_split(settings.dataset_dir, settings.train_img_dir, settings.train_anno_path))
    return coco.read(*coco.find_split(settings.dataset_dir, settings.val_img_dir, settings.val_anno_path))
