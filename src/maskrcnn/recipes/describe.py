"""Types and settings in words, for error messages and documents."""

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from maskrcnn.config import FARTHEST, LARGEST, Recipe, Settings

UNSAID = "(" + "|".join(re.escape(bound) for bound in (str(LARGEST), f"{LARGEST:g}", f"{FARTHEST:g}")) + ")"
"""Bounds that nobody needs to know, as a pattern."""


def describe(kind: Any, *, most: bool = False) -> str:
    """Say what a setting of this type may be.

    most   also that no number exceeds `LARGEST`, which nobody needs to know

    >>> from maskrcnn.config import Positive
    >>> describe(Positive), describe(tuple[Positive, ...]), describe(bool | None)
    ('an integer > 0', 'a list, each an integer > 0', 'true or false or null')
    """
    told = _describe(inspect.type_info(kind))
    return told if most else re.sub(rf" and <= {UNSAID}\b", "", told)


def _describe(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner):
            return _describe(inner)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"an integer{_bounds(info)}"
        case inspect.FloatType():
            return f"a number{_bounds(info)}"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(str(value) or repr('') for value in values)}"
        case inspect.VarTupleType(item_type=item, max_length=None):
            return f"a list, each {_describe(item)}"
        case inspect.VarTupleType(item_type=item, max_length=length):
            return f"a list of up to {length}, each {_describe(item)}"
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)}, each {_describe(items[0])}"
        case inspect.UnionType(types=types):
            return " or ".join(map(_describe, types))
        case inspect.NoneType():
            return "null"
        case _:
            return "text"


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    limits = ((">", info.gt), (">=", info.ge), ("<", info.lt), ("<=", info.le))
    words = [
        f"{sign} {limit if isinstance(limit, int) else format(limit, 'g')}"
        for sign, limit in limits
        if limit is not None
    ]
    return f" {' and '.join(words)}" if words else ""


def nearest(path: str) -> str:
    """Advise on an unknown path: the same name elsewhere, the most similar one, or the names at the top level."""
    known = (*all_settings(), *_sections())
    name = path.rpartition(".")[2]
    same_name = [one for one in known if one.rpartition(".")[2] == name]
    similar = same_name or difflib.get_close_matches(path, known, n=1, cutoff=0.75)
    if not similar:
        by_name = {one.rpartition(".")[2]: one for one in known}
        similar = [by_name[one] for one in difflib.get_close_matches(name, by_name, n=1)]
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    return f"the top level has {', '.join(Recipe.__struct_fields__)}"


def example(section: str) -> str:
    """Return the first setting of a section."""
    return next(path for path in all_settings() if path.startswith(f"{section}."))


@cache
def all_settings() -> tuple[str, ...]:
    """List the dotted path of every setting, in the schema's order."""
    return tuple(_paths(Recipe, ""))


def _sections() -> set[str]:
    return {path[: dot.start()] for path in all_settings() for dot in re.finditer(r"\.", path)}


def _paths(kind: type[Settings], prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Settings):
            yield from _paths(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
