"""Objects that are written and removed."""

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import IO

from maskrcnn.storage.location import Location
from maskrcnn.storage.store import ask, open_store

PART = 8 * 2**20
"""Bytes of a part: files above it go in several at once."""
PARTS_AT_ONCE = 4
"""Parts on the way: bounds memory, and leaves room on the line for images that are read meanwhile."""
PROBE = ".maskrcnn-can-write"
"""Name of an object that is written and removed at once."""


def write_object(location: Location, content: bytes | IO[bytes]) -> str:
    """Write an object, which appears whole or not at all; returns its mark (ETag), empty where the store gives none.

    Raises PermissionError, or ConnectionError when the store was not reached for as long as `patience()` says.
    """
    import obstore

    store, key = open_store(location)
    if not isinstance(content, bytes):  # what was read of a stream cannot be sent again by a later attempt
        content.seek(0)
    written = ask(
        location,
        "writing",
        lambda: obstore.put(store, key, content, chunk_size=PART, max_concurrency=PARTS_AT_ONCE),
    )
    return (written["e_tag"] or "").strip('"')


def remove_objects(folder: Location, names: Iterable[str]) -> None:
    """Remove objects below a folder, one after the other in the order given. One that is not there is passed over."""
    import obstore

    for name in names:
        with suppress(FileNotFoundError):
            ask(folder / name, "removing", partial(obstore.delete, *open_store(folder / name)))


def check_writable(folder: Location) -> None:
    """Write and remove a small object: a bucket that may be listed need not accept what hours of work will bring.

    Raises PermissionError, FileNotFoundError, ConnectionError or ValueError, which name the folder, where it does not.
    """
    import obstore

    store, key = open_store(folder)
    probe = f"{key}/{PROBE}".lstrip("/")
    ask(folder, "writing to", lambda: obstore.put(store, probe, b""))
    with suppress(FileNotFoundError):  # another command that tried it was first
        ask(folder, "removing what was written to", lambda: obstore.delete(store, probe))
