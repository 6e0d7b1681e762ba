"""A data set as a person wants to see it."""

from collections.abc import Sequence
from pathlib import Path

from maskrcnn.config import Data
from maskrcnn.recipes import read_recipe


def find_data(source: str, overrides: Sequence[str]) -> Data:
    """The data settings of a recipe; of a folder those of the COCO2017 layout."""
    if is_recipe(source):
        return read_recipe(source, overrides).data
    return read_recipe("coco", [f"data.dataset_dir={source}", *overrides]).data


def is_recipe(source: str) -> bool:
    """Whether `data check demo` means the recipe: a folder that is there comes first, then names of recipes."""
    return source.endswith((".yml", ".yaml")) or (Path(source).name == source and not Path(source).is_dir())
