"""Keys that stand twice at the top of a JSON file."""

import pytest

from maskrcnn.data.annotations.top_level import outermost, refuse_twice

KEYS = ("images", "annotations")


@pytest.mark.parametrize(
    "text",
    [
        b'{"images": [1], "images": [1]}',
        b'\n{"images":[{"images":[]}] , "note": "\\"]", "images":null}',
        b'{"annotations": [{"a": "}"}], "images": [], "annotations": []}',
    ],
)
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(ValueError, match="more than once"):
        refuse_twice(text, KEYS)


@pytest.mark.parametrize(
    "text",
    [
        b'{"images": [{"images": 1}, {"images": 2}], "annotations": []}',
        b'{"images": [], "note": "the \\"images\\": and {\\"images\\": []", "other": "\\\\"}',
        b'[{"images": 1}, {"images": 2}]',
        b'["images", "images"]',
        b'{"images": [], "images": [',
        b"",
        b"[" * 100_000 + b'"images" "images"',
        b'{"other": 1, "other": 2}',
    ],
)
def test_keys_further_in_and_what_is_no_object_pass(text):
    refuse_twice(text, KEYS)


def test_quotation_marks_behind_backslashes_do_not_end_a_text():
    assert outermost(b'{"a\\"": ["\\\\", "]"], "b": {"c": "{"}}') == b'{"a\\"": [], "b": {}}'
