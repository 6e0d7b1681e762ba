"""Where recipes lie."""

import difflib
from pathlib import Path

import maskrcnn


def recipe_folder() -> Path:
    """The recipes the wheel carries, or `config/` of the repository in an editable installation."""
    package = Path(maskrcnn.__path__[0])
    carried = package / "_recipes"
    return carried if carried.is_dir() else package.parents[1] / "config"


def find_recipe(path_or_name: str | Path) -> Path:
    """A recipe's file: an existing path, the `config.yml` of a folder, or a name in `recipe_folder()`."""
    path = Path(path_or_name).expanduser()
    for candidate in (path, path / "config.yml"):
        if candidate.is_file():
            return candidate
    known = {recipe.stem: recipe for recipe in sorted(recipe_folder().rglob("*.yml"))}
    # `config/demo.yml` is how documents name a recipe; it is found away from the repository too.
    if path.suffix in ("", ".yml", ".yaml") and path.stem in known and not path.is_absolute():
        return known[path.stem]
    near = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"recipes known by name: {', '.join(known)}"
    raise FileNotFoundError(f"no recipe at {path_or_name} (working directory {Path.cwd()}); {hint}")
