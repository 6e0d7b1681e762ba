"""Names of many files in one word: `train-{0000..0009}.tar`."""

import re
from collections.abc import Iterator

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_NAMES = 1_000_000
"""Names that one range may mean."""


def expanded(name: str) -> Iterator[str]:
    """The names that ranges in one mean. Raises ValueError for a range that falls, or of too many names.

    >>> list(expanded("train-{08..10}.tar"))
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    found = RANGE.search(name)
    if found is None:
        yield name
        return
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + MOST_NAMES:
        raise ValueError(f"{name}: expected a range that rises, of at most {MOST_NAMES} names, such as {{0000..0009}}")
    for number in range(first, last + 1):
        yield from expanded(f"{name[: found.start()]}{number:0{len(found[1])}}{name[found.end() :]}")
