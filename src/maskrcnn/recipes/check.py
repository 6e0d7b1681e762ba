"""Layers of settings merged into one recipe, with all mistakes reported at once."""

import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from maskrcnn.config import LARGEST, Recipe, Settings
from maskrcnn.recipes import mindspore, text
from maskrcnn.recipes.contradictions import contradictions
from maskrcnn.recipes.describe import describe, example, nearest
from maskrcnn.recipes.read import Layer, Refused, Typed
from maskrcnn.recipes.renamed import RENAMED, SECTIONS

MOST_MISTAKES = 50
"""Number of mistakes after which no more are looked for."""


class Mistake(NamedTuple):
    """A mistake and the setting it concerns."""

    path: str
    sentence: str


def build(layers: Sequence[Layer], title: str) -> Recipe:
    """Merge layers into a recipe, later ones winning. Raises ValueError that names every mistake."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for origin, settings in layers:
        for given in settings:
            for path, value in _leaves(*given):
                if len(mistakes) == MOST_MISTAKES:
                    mistakes.append(Mistake("", "what follows was not looked at"))
                    raise ValueError(_report(title, [mistake.sentence for mistake in mistakes]))
                if isinstance(value, Mistake):
                    mistakes.append(Mistake(path, f"{value.sentence} ({origin})"))
                else:
                    values[path], origins[path] = value, origin
    recipe = _fill(Recipe, values)
    spoilt = {mistake.path for mistake in mistakes}
    for paths, sentence in contradictions(recipe):
        if spoilt.isdisjoint(paths):
            origin = ", ".join(dict.fromkeys(origins[path] for path in paths if path in origins))
            mistakes.append(Mistake(paths[0], f"{paths[0]}: {sentence} ({origin or 'default'})"))
    if mistakes:
        raise ValueError(_report(title, [mistake.sentence for mistake in mistakes]))
    return recipe


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, converted value or Mistake) for each setting in `value`, which may be a section."""
    kind = _type_at(path)
    if isinstance(value, Refused):
        yield path, Mistake(path, str(value))
    elif kind is None:
        yield path, Mistake(path, f"{path}: no such setting; {_advice(path)}")
    elif isinstance(kind, type) and issubclass(kind, Settings):
        section = _parsed(value) if isinstance(value, Typed) else value
        if isinstance(section, dict):
            for name, inner in section.items():
                yield from _leaves(f"{path}.{name}", inner)
        elif section is not None:  # a section whose settings are all commented out is null
            now = f"; it is called {SECTIONS[path]} now" if path in SECTIONS else ""
            told = f"{path}: expected a section, such as {example(path)}, got {_show(section)}{now}"
            yield path, Mistake(path, told)
    else:
        yield path, _convert(path, value, kind)


def _advice(path: str) -> str:
    if path in RENAMED:
        return f"it is called {RENAMED[path]} now"
    return mindspore.advice(path) or nearest(path)


def _type_at(path: str) -> Any:
    """Return the type of a setting or section; None for an unknown path."""
    kind: Any = Recipe
    for name in path.split("."):
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            return None
        kind = {field.name: field.type for field in msgspec.structs.fields(kind)}.get(name)
    return kind


def _convert(path: str, value: Any, kind: Any) -> Any:
    is_text = getattr(kind, "__origin__", kind) is str  # the type inside Annotated
    if isinstance(value, Typed):
        value = str(value) if is_text and not value.startswith(("'", '"')) else _parsed(value)
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        hint = "; write it in quotes" if is_text and value is not None else ""
        is_huge = isinstance(value, int | float) and value > LARGEST
        return Mistake(path, f"{path}: expected {describe(kind, most=is_huge)}, got {_show(value)}{hint}")


def _parsed(word: Typed) -> Any:
    try:
        return text.parse(str(word))
    except ValueError:
        return str(word)  # only a text setting accepts it; for others the message shows what was typed


def _fill(kind: type[Settings], values: dict[str, Any], prefix: str = "") -> Any:
    given = {}
    for field in msgspec.structs.fields(kind):
        path = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, Settings):
            given[field.name] = _fill(field.type, values, f"{path}.")
        elif path in values:
            given[field.name] = values[path]
    return kind(**given)


def _show(value: Any) -> str:
    return "nothing" if value is None else "a section" if isinstance(value, dict) else reprlib.repr(value)


def _report(title: str, sentences: list[str]) -> str:
    if len(sentences) == 1:
        return sentences[0]
    return "\n  ".join([f"{len(sentences)} mistakes in the recipe {title}:", *sentences])
