"""Tables of docs/mindspore_recipes.md: `python -m maskrcnn.recipes.mindspore_document PAGE` writes them again."""

import sys
from collections.abc import Iterator
from pathlib import Path

from maskrcnn.markdown import fill, table
from maskrcnn.recipes import text
from maskrcnn.recipes.mindspore_keys import CONVENTIONS, KEYS


def rewrite(page: str) -> str:
    """Replace the tables of the page by today's keys."""
    return fill(page, {"keys": _keys(), "without": _without(), "conventions": _conventions()})


def _keys() -> Iterator[str]:
    """Yield a table of the keys that have settings here."""
    rows = [
        (f"`{path}`", ", ".join(f"`{setting}`" for setting in key.settings), key.note)
        for path, key in KEYS.items()
        if key.settings and path != "net"
    ]
    return table(("their key", "here", "to know"), rows)


def _without() -> Iterator[str]:
    """Yield a table of the keys that have none, with the reason."""
    rows = [(f"`{path}`", key.note) for path, key in KEYS.items() if not key.settings]
    return table(("their key", "why there is no setting"), rows)


def _conventions() -> Iterator[str]:
    """Yield a table of what `net: MaskRCNN` means."""
    return table(("here", "value"), [(f"`{path}`", f"`{text.dump(value)}`") for path, value in CONVENTIONS.items()])


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")
