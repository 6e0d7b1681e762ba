"""Files of a COCO file's images: found by the names that exporters write, and asked for their sizes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from maskrcnn.data.annotations.inside import leads_out
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.spelling import shown
from maskrcnn.data.decode import probe
from maskrcnn.data.faults import Faults, Kind
from maskrcnn.data.image_names import FOLDERS, LETTERS, folded, spellings

MOST_FOLDERS = 16
"""Parts of a name that are left out in turn."""
THREADS = 4
"""Threads that read headers."""


class _Folder:
    """What lies below a folder, each part of it listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed = cache(self._list)
        self._folded = cache(self._fold)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        parent, _, last = name.rpartition("/")
        return (
            last in self._listed(parent)
            and not leads_out(name, self._root)
            and os.path.isfile(os.path.join(self._root, name))
        )

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder."""
        return os.path.isdir(os.path.join(self._root, name))

    def alike(self, name: str) -> str | None:
        """The only file whose name differs in the case of letters or their Unicode form."""
        found = ""
        for part in name.split("/"):
            names = self._folded(found).get(folded(part), [])
            if len(names) != 1:
                return None
            found = f"{found}/{names[0]}" if found else names[0]
        return found if self.has(found) else None

    def others(self, name: str) -> list[str]:
        """Files of the same name with another ending."""
        parent, _, last = name.replace("\\", "/").rpartition("/")
        stem = os.path.splitext(last)[0]
        return [one for one in sorted(self._listed(parent)) if stem and os.path.splitext(one)[0] == stem]

    def _list(self, parent: str) -> set[str]:
        with suppress(OSError, ValueError):
            return set(os.listdir(os.path.join(self._root, parent)))
        return set()

    def _fold(self, parent: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in sorted(self._listed(parent)):
            found.setdefault(folded(name), []).append(name)
        return found


def find_names(names: Sequence[str], wanted: Sequence[int], images: Path, faults: Faults) -> dict[int, str]:
    """Files that some names mean although they are written otherwise, by index; only where the meaning is certain.

    wanted    indices of the names that are no files
    """
    folder = _Folder(images)
    found = {index: spelt for index in wanted if (spelt := _spelt(names[index], folder))}
    claims = Counter(name for _, name in found.values())
    missing = set(wanted)
    claims.update(name for index, name in enumerate(names) if name in claims and index not in missing)
    certain = {index: one for index, one in found.items() if claims[one[1]] == 1}
    for index, (kind, _) in certain.items():
        faults.add(kind, shown(names[index]))
    return {index: name for index, (_, name) in certain.items()}


def sizes_of(names: Sequence[str], images: Path) -> list[tuple[int, int] | str]:
    """The (height, width) that each picture's header tells, or why it tells none."""
    packed = Names.pack(names)
    found = find_names(names, missing(packed, images), images, Faults())
    out = {index for index, name in enumerate(names) if index not in found and leads_out(name, images)}

    def read(index: int) -> tuple[int, int] | str:
        if not names[index]:
            return "it has no `file_name`, and its picture cannot tell; give it one"
        if index in out:
            return "its picture lies outside the data set and is not looked at; state its height and width"
        try:
            return probe(images / found.get(index, names[index])).size
        except (OSError, ValueError) as error:
            return f"its picture cannot tell: {error}"

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read, range(len(names))))


def missing(names: Names, images: Path) -> list[int]:
    """Indices of names that are no files below the folder.

    Folders are listed, as to ask for each file takes far longer, and names compared as they lie in memory.
    """
    encoded = names.encoded()
    parents = {name.rpartition(b"/")[0] for name in encoded} if ord("/") in names.text else {b""}
    present: set[bytes] = set()
    for parent in parents:
        with suppress(OSError, ValueError):
            found = os.listdir(os.path.join(os.fsencode(images), parent))
            present.update([parent + b"/" + name for name in found] if parent else found)
    if present.issuperset(encoded):
        return []
    return [
        index
        for index, name in enumerate(encoded)
        if name not in present and not os.path.isfile(os.path.join(images, names[index]))
    ]


def hint(name: str, images: Path) -> str:
    """What lies there under nearly the same name, to follow a sentence; often nothing."""
    found = _Folder(images).others(name)
    return f"; there is {shown(found[0])}, with another ending" if found else ""


def _spelt(name: str, folder: _Folder) -> tuple[Kind, str] | None:
    candidates = [*_spellings(name, folder)]
    for kind, candidate in candidates:
        if folder.has(candidate):
            return kind, candidate
    for _, candidate in ((LETTERS, name), *candidates):
        alike = folder.alike(candidate)
        if alike:
            return LETTERS, alike
    return None


def _spellings(name: str, folder: _Folder) -> Iterator[tuple[Kind, str]]:
    """Other ways to write a name, each built on those before; folders that are there are left out of none."""
    for kind, spelt in spellings(name):
        name = spelt
        yield kind, name
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if folder.has_folder(parts[0] if parts else ""):
        return
    for start in range(1, min(len(parts), MOST_FOLDERS)):
        yield FOLDERS, "/".join(parts[start:])
