"""The formats of data sets are the same wherever they are listed."""

import re
from pathlib import Path
from typing import get_args

from maskrcnn.cli import data_sets, predict
from maskrcnn.config import Format
from maskrcnn.data.formats.known import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_recipes_name_every_format():
    assert set(get_args(Format)) == {"auto", *FORMATS}


def test_commands_write_every_format():
    assert set(get_args(data_sets.Target)) == set(FORMATS)
    help = data_sets.convert.__annotations__["to"].__metadata__[0].help
    assert re.findall(r"\w+", help.replace(" or ", " ")) == list(get_args(data_sets.Target))


def test_predictions_become_formats_that_are_known():
    assert set(get_args(predict.Proposed)) < set(FORMATS)


def test_the_page_has_a_row_for_every_format_in_the_order_in_which_they_are_looked_for():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == list(FORMATS)
