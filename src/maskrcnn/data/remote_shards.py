"""Tar shards in a store or on a web server, brought here: copied once, and compared with the store's each time."""

from fnmatch import fnmatchcase
from pathlib import Path

from maskrcnn.data.formats.shards_layout import CATEGORIES
from maskrcnn.data.name_ranges import RANGE, expanded
from maskrcnn.data.tar_members import TAR
from maskrcnn.storage.fetch import exists, fetch_file, fetch_folder
from maskrcnn.storage.find import has_pattern
from maskrcnn.storage.location import Location
from maskrcnn.storage.mirror import Mirror
from maskrcnn.storage.store import children


def holds_shards(location: Location) -> bool:
    """Whether an address is that of a tar, a range or a pattern of tars, or of a folder of a store in which some lie.

    A store that refuses to be listed, or does not answer, is taken for one without, unless copies of tars are here.
    """
    if location.key.lower().endswith(TAR):
        return True
    try:
        return not location.is_web and any(map(_is_tar, _names(location)))
    except (OSError, ValueError):
        return False


def fetch_shards(location: Location) -> Path:
    """Copy tars and the list of their categories; gives what names them here: a folder, a tar, a range or a pattern.

    Raises as `fetch_folder`.
    """
    if not location.key.lower().endswith(TAR):
        return fetch_folder(location, [name for name in _names(location) if _is_tar(name) or name == CATEGORIES])
    if not RANGE.search(location.name) and not has_pattern(location):
        tar = fetch_file(location)
        if exists(location.parent / CATEGORIES):
            fetch_file(location.parent / CATEGORIES)
        return tar
    if location.is_web:
        names = list(expanded(location.name))
        names += [CATEGORIES] if exists(location.parent / CATEGORIES) else []
    else:
        names = list(expanded(location.name))
        listed = _names(location.parent)
        if has_pattern(location):
            names = [one for one in listed if any(fnmatchcase(one, pattern) for pattern in names)]
        names += [CATEGORIES] if CATEGORIES in listed else []
    return fetch_folder(location.parent, names) / location.name


def _names(folder: Location) -> tuple[str, ...]:
    """Names of the objects in a folder of a store; of one that does not answer, of the copies that are here."""
    try:
        return tuple(entry.key for entry in children(folder))
    except ConnectionError:
        kept = tuple(Mirror(folder).read())
        if not kept:
            raise
        return kept


def _is_tar(name: str) -> bool:
    return name.lower().endswith(TAR)
