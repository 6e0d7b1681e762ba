"""`docs/architecture.md` names files that are there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_file_that_it_names_is_there():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = [path.as_posix() for folder in ("src", "tests") for path in (REPOSITORY / folder).rglob("*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in files)} == set()
