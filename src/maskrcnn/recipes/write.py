"""The resolved recipe as a readable file, with the docstring of each setting beside it."""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from maskrcnn import config
from maskrcnn.recipes import text


def write_recipe(recipe: config.Recipe, path: Path) -> None:
    """Write every setting; `read_recipe(path)` returns an equal recipe."""
    path.write_text(to_text(recipe), encoding="utf-8")


def to_text(recipe: config.Recipe) -> str:
    """Return every setting as YAML, with its docstring as a comment."""
    return "\n".join(_lines(recipe)) + "\n"


def _lines(section: config.Settings, indent: str = "") -> Iterator[str]:
    of_fields = reasons()[type(section).__name__]
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, config.Settings):
            yield f"{indent}{name}:  # {inspect.getdoc(type(value))}"
            yield from _lines(value, indent + "  ")
        else:
            reason = f"  # {of_fields[name]}" if name in of_fields else ""
            yield f"{indent}{name}: {text.dump(msgspec.to_builtins(value))}{reason}"


@cache
def reasons() -> dict[str, dict[str, str]]:
    """Collect the docstring of each field of each class in the schema, which Python itself does not keep."""
    sections = [node for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef)]
    return {section.name: dict(_documented_fields(section)) for section in sections}


def _documented_fields(section: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in zip(section.body, section.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(reason))),
            ):
                yield name, " ".join(reason.split())
