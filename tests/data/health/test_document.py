"""docs/data_check.md tells today's kinds of fault."""

from pathlib import Path

from maskrcnn.data.health.document import kinds, rewrite

PAGE = Path(__file__).parents[3] / "docs" / "data_check.md"


def test_the_page_is_in_step_with_the_kinds():
    page = PAGE.read_text(encoding="utf-8")
    assert rewrite(page) == page, "out of date; run: python -m maskrcnn.data.health.document docs/data_check.md"


def test_no_two_kinds_have_one_name():
    found = kinds()
    assert len({kind.name for kind in found}) == len(found) > 30
