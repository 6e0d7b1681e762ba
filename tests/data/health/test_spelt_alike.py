"""Names and numbers that look the same and are not."""

import unicodedata

import msgspec
import pytest

from maskrcnn.data.annotations.annotation_row import CROWD_BEYOND, CROWD_SPELT, read_entry
from maskrcnn.data.health.classes import _alike


def test_names_of_different_unicode_form_are_alike():
    assert _alike([unicodedata.normalize(form, "Zähler") for form in ("NFC", "NFD")])


@pytest.mark.parametrize(("stated", "kind"), [("2", CROWD_BEYOND), ("1", CROWD_SPELT), (0.0, CROWD_SPELT)])
def test_crowd_as_text_or_decimal_is_told_by_what_it_spells(stated, kind):
    row = msgspec.Raw(msgspec.json.encode({"id": 1, "image_id": 1, "category_id": 1, "iscrowd": stated}))
    assert read_entry(row)[1] == {kind}


def test_half_a_crowd_is_refused_in_plain_words():
    row = msgspec.Raw(msgspec.json.encode({"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0.5}))
    with pytest.raises(msgspec.DecodeError, match=r"^`iscrowd` is 0.5; write 0 or 1$"):
        read_entry(row)
