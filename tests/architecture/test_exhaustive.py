"""Longer forms of tests, which `make test` leaves out, are listed with their reason."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_contributing_lists_every_file_that_has_some():
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(tests/\S+\.py)`", page, re.MULTILINE))
    paths = ((path, path.read_text(encoding="utf-8")) for path in (REPOSITORY / "tests").rglob("*.py"))
    marked = {path.relative_to(REPOSITORY).as_posix() for path, text in paths if "mark.exhaustive" in text}
    assert listed == marked - {"tests/architecture/test_exhaustive.py"}
