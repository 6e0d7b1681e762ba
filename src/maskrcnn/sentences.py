"""How messages put things."""

from collections.abc import Iterable


def some_of(items: Iterable[object], most: int = 5, *, separator: str = ", ") -> str:
    """The first items of a list, and how many more there are.

    >>> some_of(["cat", "dog", "bird", "fish"], most=2), some_of([3, 5]), some_of([])
    ('cat, dog and 2 more', '3, 5', 'none')
    """
    words = [str(item) for item in items]
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return separator.join(words[:most]) + rest or "none"
