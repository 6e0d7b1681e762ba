"""The one door to the bytes of a file, wherever it lies."""

from pathlib import Path

from maskrcnn.storage import web
from maskrcnn.storage.location import Where, at
from maskrcnn.storage.store import read_object


def read_bytes(where: Where) -> bytes:
    """All bytes of a file on disk, of an object in a store, or of a web address.

    Raises FileNotFoundError, PermissionError or ConnectionError, of an address with a sentence.
    """
    found = at(where)
    if isinstance(found, Path):
        return found.read_bytes()
    return web.read(found) if found.is_web else read_object(found)
