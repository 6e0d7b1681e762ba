"""Documents name files that are there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "maskrcnn"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
COMING = {"models/efficientnet.py", "convert/efficientnet.py"}
"""Files that the page may name before they are there."""


def test_files_and_folders_that_the_architecture_names_exist():
    names = set(re.findall(r"`([\w./]+(?:\.py|/))`", PAGE)) - {"evaluation/"}  # a folder of a run
    assert len(names) > 80
    missing = {name for name in names if not any((root / name).exists() for root in (SOURCE, REPOSITORY))}
    assert missing - COMING == set()


def test_every_operator_stands_in_the_table():
    section = PAGE.partition("## Operators")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    operators = {path.parent.name for path in (SOURCE / "ops").glob("*/reference.py")}
    assert operators <= rows <= operators | {"depthwise"}
