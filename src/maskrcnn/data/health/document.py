"""The table of docs/data_check.md: `python -m maskrcnn.data.health.document docs/data_check.md` writes it again."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import maskrcnn.data
from maskrcnn.data.faults import Kind, Severity
from maskrcnn.markdown import fill, table

ORDER = list(reversed(Severity))


def kinds() -> list[Kind]:
    """All kinds of fault that are constants of a module of `maskrcnn.data`, the worst first, then by name."""
    found: dict[str, Kind] = {}
    for module in walk_packages(maskrcnn.data.__path__, "maskrcnn.data."):
        if module.name != __name__:
            found |= {kind.name: kind for kind in _constants(vars(import_module(module.name)))}
    return sorted(found.values(), key=lambda kind: (ORDER.index(kind.severity), kind.name))


def rewrite(page: str) -> str:
    """Replace the table of docs/data_check.md by today's kinds of fault. Raises ValueError where its marks are not."""
    rows = [(f"`{kind.name}`", str(kind.severity), f"{kind.noun} {kind.claim}", _repair(kind)) for kind in kinds()]
    return fill(page, {"kinds": table(("kind", "how bad", "what it says", "`--fix`"), rows)})


def _repair(kind: Kind) -> str:
    return kind.repair or ("" if kind.severity is Severity.NOTE else "only a person can")


def _constants(names: dict[str, object]) -> Iterator[Kind]:
    for value in names.values():
        members = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        yield from (one for one in members if isinstance(one, Kind))


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")
