"""Recipes found by path or by name."""

import difflib
from pathlib import Path

from maskrcnn.run_folder import CONFIG


def recipe_folder() -> Path:
    """Return the folder of shipped recipes: inside the wheel, or `config/` in an editable installation."""
    package = Path(__file__).parents[1]
    carried = package / "_recipes"
    return carried if carried.is_dir() else package.parents[1] / "config"


def find_recipe(path_or_name: str | Path) -> Path:
    """Find a recipe's file: an existing path, the `config.yml` of a folder, or the name of a shipped recipe.

    Names are `demo`, `maskrcnn/<recipe>` and `config/demo.yml`, in any working directory. A path to another folder
    never means a shipped recipe of the same name.
    """
    path = Path(path_or_name).expanduser()
    for candidate in (path, path / CONFIG):
        if candidate.is_file():
            return candidate
    known = {recipe.stem: recipe for recipe in sorted(recipe_folder().rglob("*.yml"))}
    name = path.as_posix().removesuffix(".yml").removesuffix(".yaml")
    for recipe in known.values():
        full_name = recipe.relative_to(recipe_folder()).with_suffix("").as_posix()
        if name in (recipe.stem, full_name, f"config/{full_name}"):
            return recipe
    near = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"recipes known by name: {', '.join(known)}"
    raise FileNotFoundError(
        f"no recipe at {path_or_name}, nor a folder of data (working directory {Path.cwd()}); {hint}"
    )
