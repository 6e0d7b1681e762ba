"""What docs/reliability.md says holds a promise is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SHOWN = re.findall(r"`([^`\n]+)`", (REPOSITORY / "docs/reliability.md").read_text(encoding="utf-8"))
FILES = sorted({words.split()[0] for words in SHOWN if words.startswith(("tests/", "tools/", "benchmarks/"))})
TESTS = sorted({words for words in SHOWN if words.startswith("test_")})


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_there(name):
    assert (REPOSITORY / name).is_file()


@pytest.mark.parametrize("name", TESTS)
def test_each_test_is_there(name):
    assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))


def test_the_long_forms_are_run_by_make():
    made = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    names = {Path(name).stem for name in FILES if name.startswith("tools/")}
    assert names >= {"torture", "torture_checkpoints", "torture_weights", "torture_bombs"}
    assert all(name.removeprefix("torture_") in made for name in names)
