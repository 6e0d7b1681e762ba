"""Keys that stand twice in a JSON file: parsers take the last and say nothing of the others."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np

from maskrcnn.data.annotations.json_values import (
    BACKSLASH,
    LEFT_BRACE,
    LEFT_BRACKET,
    QUOTE,
    RIGHT_BRACE,
    RIGHT_BRACKET,
)
from maskrcnn.kernels import kernel
from maskrcnn.sentences import some_of


class _Pairs(list[tuple[str, Any]]):
    """What an object holds, in its order."""


def refuse_twice(text: bytes, keys: Sequence[str]) -> None:
    """Raise ValueError where one of these keys stands twice in the object that a file is.

    Files that are no JSON, which a parser tells better, pass.
    """
    if all(text.count(f'"{key}"'.encode()) < 2 for key in keys):
        return
    try:
        pairs = json.loads(outermost(text), object_pairs_hook=_Pairs)
    except ValueError:
        return
    counts = Counter(key for key, _ in pairs) if isinstance(pairs, _Pairs) else Counter()
    twice = [f"`{key}`" for key in keys if counts[key] > 1]
    if twice:
        raise ValueError(f"has {some_of(twice)} more than once, of which a program would read one; join or remove them")


def outermost(text: bytes) -> bytes:
    """A JSON text with all that lies in its inner lists and objects left out.

    >>> outermost(b'{"a": [1, {"b": 2}], "a": {}, "c": "["}')
    b'{"a": [], "a": {}, "c": "["}'
    """
    out = np.empty(len(text), np.uint8)
    return out[: _copy_outermost(np.frombuffer(text, np.uint8), out)].tobytes()


@kernel()
@no_type_check
def _copy_outermost(text, out):
    """Copy what stands at depth one, and the brackets of what is deeper; gives its length."""
    depth = end = 0
    is_inside = is_escaped = False
    for character in text:
        closes = not is_inside and character in (RIGHT_BRACKET, RIGHT_BRACE)
        depth -= closes
        if depth <= 1:
            out[end] = character
            end += 1
        depth += not is_inside and character in (LEFT_BRACKET, LEFT_BRACE)
        if character == QUOTE and not is_escaped:
            is_inside = not is_inside
        is_escaped = is_inside and character == BACKSLASH and not is_escaped
    return end
