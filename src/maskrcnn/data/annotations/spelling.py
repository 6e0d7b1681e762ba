"""Values that have one meaning, although they are not written as COCO writes them."""

import math
import re
from typing import Any

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,4})?\s*")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_BYTES = re.compile(r"b(['\"])(.*)\1", re.DOTALL)
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Numbers that JSON does not know, as text."""
FLAGS = {"true": True, "false": False, "": False}
Key = int | str
"""An id as it is looked up: a whole number of 64 bits, else text."""
MOST_SHOWN = 60
"""Characters of a file's own text that a sentence repeats."""


def decimal(value: Any) -> Any:
    """The number that a text spells; anything else as it is.

    >>> decimal("12.5"), decimal("12"), decimal("twelve")
    (12.5, 12.0, 'twelve')
    """
    if not isinstance(value, str):
        return value
    return float(value) if _NUMBER.fullmatch(value) else NON_FINITE.get(value, value)


def whole(value: Any) -> Any:
    """The whole number that a text or a decimal says; anything else as it is.

    >>> whole("12"), whole(12.0), whole("12.0"), whole(12.5)
    (12, 12, 12, 12.5)
    """
    number = decimal(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def key_of(value: Any) -> Any:
    """The id that is meant: numbers that fit into 64 bits as such, other numbers and texts as text.

    >>> key_of("12"), key_of(12.0), key_of(2**70), key_of("012"), key_of(None)
    (12, 12, '1180591620717411303424', '012', None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


def flag(value: Any) -> Any:
    """Whether something is meant to be true; null is not. Anything else as it is.

    >>> flag(None), flag("0"), flag("True"), flag(1.0)
    (False, False, True, True)
    """
    if value is None:
        return False
    number = FLAGS.get(value.lower(), whole(value)) if isinstance(value, str) else whole(value)
    return bool(number) if isinstance(number, int) else value


def from_bytes(counts: Any) -> Any:
    """Compressed run lengths without the `b'...'` that Python puts around bytes; anything else as it is.

    >>> from_bytes("b'PQ4f0'")
    'PQ4f0'
    """
    found = _BYTES.fullmatch(counts) if isinstance(counts, str) else None
    return found[2].replace("\\\\", "\\") if found else counts


def shown(value: object) -> str:
    """What a sentence repeats of a file's own text."""
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
