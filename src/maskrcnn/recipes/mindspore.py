"""Recipes of the MindSpore system, read as they are: `mindspore_keys.py` says what each key is here."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maskrcnn.recipes.describe import all_settings
from maskrcnn.recipes.mindspore_keys import KEYS, STEPS_LEFT_OUT
from maskrcnn.recipes.read import Layer, Refused

MARKS = ("net", "data.nc")
"""Keys of which each complete recipe of theirs has one, and no recipe of ours."""
STEPS = "item_transforms"
"""Name of a list of steps, each a mapping of one name."""
PAGE = "docs/mindspore_recipes.md"


def is_theirs(layers: Sequence[Layer]) -> bool:
    """Tell whether these files, with their bases, are a recipe of the MindSpore system."""
    return any(path in MARKS for layer in layers for path, _ in flat_keys(layer.settings))


def translate(layers: Sequence[Layer], name: str) -> tuple[list[Layer], list[str]]:
    """Return layers of our settings, and those of their keys that have none.

    layers   the files of a recipe, bases first; they may have settings of ours too
    name     name of the recipe, which theirs do not have
    What cannot be translated becomes a `Refused` value, which `build` reports with all other mistakes.
    """
    merged = _merged(layers)
    given = {path: value for path, (value, _) in merged.items()}
    conventions_first = sorted(merged.items(), key=lambda one: one[0] != "net")
    translated = [_translated(path, value, origin, given) for path, (value, origin) in conventions_first]
    return [Layer(name, [("name", name)]), *translated], [path for path in given if path in KEYS and KEYS[path].is_lost]


def advice(path: str) -> str:
    """Say what a dotted path that is no setting is here, if it is one of their keys; empty where it is not."""
    settings = " and ".join(KEYS[path].settings) if path in KEYS and "." in path else ""
    return f"it is the MindSpore system's name of {settings}" if settings else ""


def _merged(layers: Sequence[Layer]) -> dict[str, tuple[Any, str]]:
    """Collect (value, origin) of each key, in the order in which keys were last given; a list of steps is one value."""
    merged: dict[str, tuple[Any, str]] = {}
    for origin, settings in layers:
        new = list(flat_keys(settings))
        lists = {path[: path.index(STEPS)] for path, _ in new if STEPS in path}
        for path in [path for path in merged if STEPS in path and path[: path.index(STEPS)] in lists]:
            del merged[path]
        for path, value in new:
            merged.pop(path, None)
            merged[path] = value, origin
    return merged


def _translated(path: str, value: Any, origin: str, given: Mapping[str, Any]) -> Layer:
    if path not in KEYS:
        unknown = path not in all_settings()
        return Layer(origin, [(path, Refused(f"{path}: {_unknown(path)}") if unknown else value)])
    try:
        return Layer(f"{origin}: {path}", list(KEYS[path].read(value, given).items()))
    except ValueError as error:
        return Layer(origin, [(path, Refused(f"{path}: {error}"))])


def _unknown(path: str) -> str:
    known = [*KEYS, *all_settings()]
    name = path.rpartition(".")[2]
    near = [one for one in known if one.rpartition(".")[2] == name] or difflib.get_close_matches(path, known, n=1)
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"{PAGE} lists them"
    return f"no setting, neither here nor in recipes of the MindSpore system; {hint}"


def flat_keys(settings: Sequence[tuple[str, Any]], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value), where a step of a list counts as a section and one that is left out has its value."""
    for name, value in settings:
        path = f"{prefix}{name}"
        steps = _steps_of(value) if name == STEPS else None
        if steps is not None:
            left_out = [(key, none) for key, none in STEPS_LEFT_OUT.items() if key.startswith(f"{path}.")]
            inner = dict(flat_keys(steps, f"{path}."))
            names = {f"{path}.{step}." for step, _ in steps}
            yield from [*inner.items(), *(one for one in left_out if not one[0].startswith(tuple(names)))]
        elif isinstance(value, Mapping):
            yield from flat_keys(list(value.items()), f"{path}.")
        else:
            yield path, value


def _steps_of(value: Any) -> list[tuple[str, Any]] | None:
    """Return (name, arguments) of each step; None where this is no list of steps."""
    if not isinstance(value, list) or not all(isinstance(step, dict) and len(step) == 1 for step in value):
        return None
    return [(name, arguments or {}) for step in value for name, arguments in step.items()]
