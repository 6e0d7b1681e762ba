"""`docs/architecture.md` names files that are there, and every operator."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "maskrcnn"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_and_folder_that_it_names_is_there():
    names = set(re.findall(r"`([\w./]+(?:\.py|/))`", PAGE)) - {"evaluation/"}  # a folder of a run
    assert len(names) > 80
    missing = {name for name in names if not any((root / name).exists() for root in (SOURCE, REPOSITORY))}
    assert missing == set()


def test_every_operator_stands_in_the_table():
    section = PAGE.partition("## Operators")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    operators = {path.parent.name for path in (SOURCE / "ops").glob("*/reference.py")}
    assert rows == operators
