"""A data set as a person wants to see it."""

from collections.abc import Sequence
from pathlib import Path

from maskrcnn.config import Data
from maskrcnn.data.formats.archive import is_archive
from maskrcnn.data.formats.shards_layout import is_pattern
from maskrcnn.recipes import read_recipe


def find_data(source: str, overrides: Sequence[str]) -> Data:
    """The data settings of a recipe; of a folder those of the COCO2017 layout."""
    if is_recipe(source):
        return read_recipe(source, overrides).data
    return read_recipe("coco", [f"data.dataset_dir={source}", *overrides]).data


def is_recipe(source: str) -> bool:
    """Whether `data check demo` means the recipe: data that are there come first, then names of recipes."""
    path = Path(source)
    is_there = path.is_dir() or is_archive(path) or is_pattern(path)
    return source.endswith((".yml", ".yaml")) or (path.name == source and not is_there)
