"""The first line of a docstring stands alone in a tooltip: it begins with a noun or with what a function does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "maskrcnn"
LEANING = ("Of ", "As ", "Those ", "By ", "That ", "Whose ")
"""Words that lean on a name which a tooltip may not show."""


def leaning(source: str) -> Iterator[tuple[int, str]]:
    """Line and first line of each docstring, be it of a module, class, function, constant or field, that leans."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value
            if text.startswith(LEANING):
                yield node.lineno, text.splitlines()[0]


def test_docstrings_stand_alone():
    found = [
        f'{path.relative_to(REPOSITORY).as_posix()}:{line}: "{text}"'
        for path in sorted(SOURCE.rglob("*.py"))
        for line, text in leaning(path.read_text(encoding="utf-8"))
    ]
    advice = "begin a constant's docstring with its noun and a function's with what it does, not with any of"
    assert not found, "\n".join([f"{advice} {', '.join(map(str.strip, LEANING))}:", *found])


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"""Of a module."""', 1),
        ('LIMIT = 3\n"""Of one line."""', 2),
        ('class Box:\n    size: int\n    """Whose size it is."""', 3),
        ('def area():\n    """As people say.\n\n    More.\n    """', 2),
        ('class Box:\n    def area(self):\n        """Those that fit."""', 3),
        ('async def area():\n    if True:\n        LIMIT = 3\n        """By the way."""', 4),
    ],
)
def test_docstrings_of_every_kind_are_seen(source, line):
    assert [number for number, _ in leaning(source)] == [line]


@pytest.mark.parametrize(
    "source", ['"""Offsets of rows."""', 'name = "Of course"', '# Of\nprint("As is")', "f'As {1}'"]
)
def test_other_texts_are_free(source):
    assert not list(leaning(source))
