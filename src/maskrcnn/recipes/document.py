"""Tables of docs/recipes.md: `python -m maskrcnn.recipes.document docs/recipes.md` writes them again."""

import inspect
import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import msgspec

from maskrcnn.config import Recipe, Role, Settings
from maskrcnn.markdown import fill, table
from maskrcnn.recipes import text
from maskrcnn.recipes.describe import describe
from maskrcnn.recipes.find import recipe_folder
from maskrcnn.recipes.read import BASE
from maskrcnn.recipes.roles import roles_of
from maskrcnn.recipes.write import reasons


def rewrite(page: str) -> str:
    """Replace the tables of docs/recipes.md by today's recipes, roles and settings."""
    return fill(page, {"recipes": _recipes(), "roles": _roles(), "settings": _settings(Recipe, "")})


def _recipes() -> Iterator[str]:
    """Yield a table of the shipped recipes: name, base, and the comment at the head."""
    folder = recipe_folder()
    paths = sorted(folder.rglob("*.yml"), key=lambda path: (path.parent != folder, _natural(path)))
    rows = []
    for path in paths:
        content = path.read_text(encoding="utf-8")
        head = takewhile(lambda line: line.startswith("#"), content.splitlines())
        base = text.parse(content).get(BASE, "")
        purpose = " ".join(line.removeprefix("#").strip() for line in head)
        name = path.relative_to(folder).with_suffix("").as_posix()
        rows.append((f"`{name}`", f"`{Path(base).stem}`" if base else "", purpose))
    return table(("recipe", "based on", "what it is"), rows)


def _natural(path: Path) -> list[int | str]:
    """Sort ResNet-50 before ResNet-101."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def _roles() -> Iterator[str]:
    return table(("role", "what it decides"), [(role.value, reasons()["Role"][role.name]) for role in Role])


def _settings(section: type[Settings], path: str) -> Iterator[str]:
    """Yield a table for each section, its own settings before the sections inside it."""
    sections, rows = [], []
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Settings):
            sections.append((field.type, f"{path}{field.name}."))
        else:
            name, default = f"{path}{field.name}", text.dump(msgspec.to_builtins(field.default))
            reason = reasons()[section.__name__].get(field.name, "")
            rows.append((f"`{name}`", describe(field.type), f"`{default}`", roles_of(Recipe)[name], reason))
    yield from (f"### {path.removesuffix('.') or 'Top level'}", "", str(inspect.getdoc(section)), "")
    yield from table(("setting", "values", "default", "role", "what it is"), rows)
    for inner, inner_path in sections:
        yield ""
        yield from _settings(inner, inner_path)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")
