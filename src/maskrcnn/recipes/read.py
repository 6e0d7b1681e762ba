"""Layers of settings: the files of a recipe, its bases first, and the command line last."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

from maskrcnn.checksums import was_changed
from maskrcnn.job import ENABLED, HANDED_OVER
from maskrcnn.recipes import text
from maskrcnn.run_folder import CONFIG
from maskrcnn.sentences import Note

BASE = "__BASE__"
MOST_FILES = 64
"""Files that a recipe may consist of."""
JOB = (ENABLED, *HANDED_OVER)
"""Keys of a file that belong to no recipe."""


class Layer(NamedTuple):
    """Settings from one place. A later layer wins, setting by setting."""

    origin: str
    settings: list[tuple[str, Any]]
    """(dotted path, value) pairs in the order in which they apply; a value may be a whole section."""


class Typed(str):
    """A word from the command line: a YAML value, unless the setting it is meant for is text."""


class Refused(str):
    """A mistake that reading found, in place of the value: the sentence, which names the setting."""


def read_layers(path: Path) -> Iterator[Layer]:
    """Yield the layers of a file; its `__BASE__` files, relative to its folder, come first."""
    for origin, settings in _layers(path):
        yield Layer(origin, [(key, value) for key, value in settings if key not in JOB])


def read_job(path: Path) -> dict[str, Any]:
    """Return what a file and its bases say of a platform's job."""
    return {key: value for _, settings in _layers(path) for key, value in settings if key in JOB}


def _layers(path: Path, inside: tuple[Path, ...] = (), seen: list[Path] | None = None) -> Iterator[Layer]:
    """Yield the layers of a file, its bases' first; inside are the files that led here, seen all that were read."""
    here, seen = path.resolve(), [] if seen is None else seen
    if here in inside:
        raise ValueError(f"{BASE} goes in a circle: {' -> '.join(str(step) for step in (*inside, here))}")
    seen.append(here)
    if len(seen) > MOST_FILES:
        raise ValueError(
            f"{inside[0]}: {BASE}: expected up to {MOST_FILES} files, each as often as it is named, got more"
        )
    content = _read_file(path)
    _find_beside(path, content.get("data"))
    for base in _bases(content.pop(BASE, []), path):
        yield from _layers(base, (*inside, here), seen)
    origin = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    yield Layer(str(origin), list(content.items()))


def read_overrides(words: Sequence[str]) -> Layer:
    """Parse the settings of a command line: `a.b=v`, `--a.b=v`, or `--a.b v`.

    >>> read_overrides(["--train.batch", "4", "name=fourth"]).settings
    [('train.batch', '4'), ('name', 'fourth')]
    """
    settings, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        key, has_value, value = word.removeprefix("--").partition("=")
        if not has_value and word.startswith("--") and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        elif not has_value or not key:
            raise ValueError(f"expected a setting such as train.batch=8 or --train.batch 8, got {word!r}")
        settings.append((key, Typed(value)))
    return Layer("command line", settings)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            written = file.read(text.MOST_LETTERS * 4 + 1).decode().replace("\r\n", "\n")
        content = text.parse(written)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}: expected UTF-8, received something else in line {line}; save it as UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if was_changed(written):
        warn(f"{path} was changed since it was written; it is taken as it is now", Note, stacklevel=2)
    if content is None and path.name == CONFIG:
        raise ValueError(f"{path} holds no settings; copy it again, or take a recipe by its name")
    if not isinstance(content, dict | None):
        raise ValueError(f"{path}: expected settings such as `train:`, got {type(content).__name__}")
    return content or {}


def _find_beside(path: Path, data: Any) -> None:
    """Name a split file that lies beside a recipe by its whole path: a run's plan names it so, wherever it is moved."""
    name = data.get("split_file") if isinstance(data, dict) else None
    if isinstance(name, str) and name and (path.parent / name).is_file():
        data["split_file"] = str(path.parent / name)


def _bases(value: Any, path: Path) -> Iterator[Path]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: {BASE}: expected a file name or a list of them, got {value!r}")
    for name in names:
        base = path.parent / Path(name).expanduser()
        if not base.is_file():
            raise FileNotFoundError(f"{path}: {BASE} names {name}, but there is no file {base}")
        yield base
