"""Which objects a pattern means."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile

from maskrcnn.storage.location import Location
from maskrcnn.storage.store import listing

MAGIC = frozenset("*?[")


def matching(pattern: Location) -> Iterator[Location]:
    """Yield the objects whose names a pattern means, as `glob` does with files: * ends at a slash, ** does not."""
    parts = pattern.key.split("/")
    fixed = list(takewhile(lambda part: MAGIC.isdisjoint(part), parts[:-1]))
    folder = Location(pattern.scheme, pattern.bucket, "/".join(fixed))
    for entry in sorted(listing(folder)):
        if _fits(entry.key.split("/"), parts[len(fixed) :]):
            yield folder / entry.key


def has_pattern(location: Location) -> bool:
    """Whether an address means several objects; on the web a question mark begins a query, and nothing is a pattern."""
    return not location.is_web and not MAGIC.isdisjoint(location.key)


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[skipped:], pattern[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
