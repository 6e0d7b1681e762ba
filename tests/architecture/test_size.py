"""The core stays small enough to be read in one sitting."""

import ast
import io
import re
import tokenize
from pathlib import Path
from statistics import median, quantiles

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "maskrcnn"
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
CORE = (
    "boxes.py",
    "models/anchors.py",
    "models/matching.py",
    "models/losses.py",
    "models/rpn.py",
    "models/box_head.py",
    "models/mask_head.py",
    "ops/roi_align/__init__.py",
    "ops/roi_align/reference.py",
)
"""Anchors and coding, RoIs over levels, matching and sampling, losses, post-processing."""
MOST_LINES = 700
MOST_FILES = 9
LONGEST, MEDIAN, NINETIETH = 60, 7, 21
"""Lines of a function: of the longest, of one in the middle, and of one that nine in ten do not exceed."""


def code_lines(text: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    used = {line for token in tokens if token.type not in NOT_CODE for line in range(token.start[0], token.end[0] + 1)}
    statements = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    strings = [node for node in statements if isinstance(getattr(node.value, "value", None), str)]
    return len(used - {line for node in strings for line in range(node.lineno, node.end_lineno + 1)})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ('"""One\n\ntwo."""\n\n# three\n', 0),
        ('def f(\n    x,  # why\n):\n    """What.\n    """\n\n    return """a\n    b"""\n', 5),
        ("a = 1\n'''its reason'''\n", 1),
    ],
)
def test_blank_lines_comments_and_docstrings_are_not_code(text, number):
    assert code_lines(text) == number


def test_the_core_of_the_detector_stays_under_700_lines():
    lines = {name: code_lines((SOURCE / name).read_text(encoding="utf-8")) for name in CORE}
    assert sum(lines.values()) < MOST_LINES, lines


def test_from_a_file_on_disk_to_the_loss_it_is_at_most_nine_steps():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## From a file on disk to the loss")[2].partition("\n## ")[0]
    steps = [re.findall(r"`([\w/]+\.py)`", row.split("|")[1]) for row in section.splitlines() if row.startswith("| `")]
    assert 0 < len(steps) <= MOST_FILES
    files = [name for step in steps for name in step]
    assert [name for name in files if not (SOURCE / name).is_file()] == []
    assert (files[0], files[-1]) == ("data/split.py", "models/mask_head.py")


def test_functions_are_short():
    modules = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    lines = {
        f"{name}, line {node.lineno}": node.end_lineno - node.lineno + 1
        for name, text in modules.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: number for name, number in lines.items() if number > LONGEST} == {}
    assert median(lines.values()) <= MEDIAN
    assert quantiles(lines.values(), n=10)[-1] <= NINETIETH
