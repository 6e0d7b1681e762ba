"""Recipes: YAML files that fill the structs of `maskrcnn.config`, read strictly and written in full."""

from collections.abc import Sequence
from pathlib import Path
from warnings import warn

from maskrcnn.config import Recipe
from maskrcnn.recipes import mindspore
from maskrcnn.recipes.check import build
from maskrcnn.recipes.find import find_recipe, recipe_folder
from maskrcnn.recipes.read import read_layers, read_overrides
from maskrcnn.recipes.write import write_recipe
from maskrcnn.sentences import Note, some_of

__all__ = ["find_recipe", "read_recipe", "recipe_folder", "write_recipe"]


def read_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check the complete recipe of a file, a weights folder or a name such as `demo`.

    path_or_name   a recipe of ours or of the MindSpore system, which is translated with a `Note`
    overrides   `a.b=v`, `--a.b=v` or two words, `--a.b v`; values are YAML, text is taken as it is
    Raises FileNotFoundError where a recipe or its `__BASE__` is missing, and ValueError that lists every mistake.

    >>> read_recipe("demo", ["train.epochs=2", "--train.optimizer.lr", "1e-4"]).train.optimizer.lr
    0.0001
    """
    path = find_recipe(path_or_name)
    layers = list(read_layers(path))
    if mindspore.is_theirs(layers):
        layers, lost = mindspore.translate(layers, path.stem)
        warn(_told(path_or_name, lost), Note, stacklevel=2)
    return build([*layers, read_overrides(overrides)], title=str(path_or_name))


def _told(title: str | Path, lost: Sequence[str]) -> str:
    return (
        f"{title} is read as a recipe of the MindSpore system; {len(lost)} of its keys change nothing here "
        f"({some_of(lost, 3)}), for reasons that {mindspore.PAGE} gives"
    )
