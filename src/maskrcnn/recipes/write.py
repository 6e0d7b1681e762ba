"""The resolved recipe as a readable file, with the docstring of each setting beside it."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec

from maskrcnn import config
from maskrcnn.checksums import with_sum
from maskrcnn.config import augment, data, model, roles, train
from maskrcnn.files import atomic_write
from maskrcnn.recipes import text
from maskrcnn.recipes.flat import flatten


def write_recipe(recipe: config.Recipe, path: Path) -> None:
    """Write every setting; `read_recipe(path)` returns an equal recipe, and says so where the file was changed."""
    with atomic_write(path) as draft:
        draft.write_text(with_sum(to_text(recipe)), encoding="utf-8")


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
    sources = [ast.parse(inspect.getsource(module)) for module in (config, augment, data, model, roles, train)]
    sections = [node for source in sources for node in source.body if isinstance(node, ast.ClassDef)]
    return {section.name: dict(_documented_fields(section)) for section in sections}


def _documented_fields(section: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in zip(section.body, section.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(reason))),
            ):
                yield name, " ".join(reason.split())


def with_split(plan: str, name: str) -> str:
    """The text of a plan with the file that says which images its run has set apart, unless it names one.

    name   relative to the plan
    """
    if re.search(r"^ +split_file:", plan, re.MULTILINE):
        return plan
    line = f"  split_file: {text.dump(name)}  # beside this file: the images that the run has set apart"
    return re.sub(r"^data:.*$", lambda found: f"{found[0]}\n{line}", plan, count=1, flags=re.MULTILINE)


def to_plan(recipe: config.Recipe, reasons: Mapping[str, str], heading: str) -> str:
    """Return the settings that differ from their defaults as YAML, each with its reason, below some lines of comment.

    reasons   by dotted path; other settings have none
    """
    usual = dict(flatten(msgspec.to_builtins(config.Recipe())))
    given = {path: value for path, value in flatten(msgspec.to_builtins(recipe)) if value != usual[path]}
    lines = [f"# {line}" for line in heading.splitlines()]
    section: tuple[str, ...] = ()
    for path, value in given.items():
        *outer, name = path.split(".")
        shared = next(
            (k for k, (a, b) in enumerate(zip(section, outer, strict=False)) if a != b), min(len(section), len(outer))
        )
        lines += [f"{'  ' * depth}{outer[depth]}:" for depth in range(shared, len(outer))]
        section = tuple(outer)
        reason = f"  # {reasons[path]}" if path in reasons else ""
        lines.append(f"{'  ' * len(outer)}{name}: {text.dump(value)}{reason}")
    return "\n".join(lines) + "\n"
