"""Nested settings as pairs of dotted path and value."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of every setting in plain mappings; tuples become lists, as they are on disk.

    >>> list(flatten({"train": {"batch": 4}, "classes": ("cat",)}))
    [('train.batch', 4), ('classes', ['cat'])]
    """
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _as_on_disk(value)


def _as_on_disk(value: Any) -> Any:
    return [_as_on_disk(item) for item in value] if isinstance(value, tuple) else value
