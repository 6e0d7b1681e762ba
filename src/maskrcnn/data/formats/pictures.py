"""Images below a folder, found by the names that label files give them."""

import posixpath
from collections.abc import Iterator, Sequence
from functools import cached_property

from maskrcnn.data.annotations.images import NO_SIZE, SIZE_FOUND
from maskrcnn.data.decode import probe
from maskrcnn.data.faults import Faults, Kind
from maskrcnn.data.formats.below import paths_having
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.image_file import LONGEST_SIDE
from maskrcnn.data.image_names import ADDRESS, FOLDERS, LETTERS, MISSING_IMAGE, folded, spellings
from maskrcnn.data.sources import SUFFIXES


class Pictures:
    """All images below a folder."""

    def __init__(self, folder: Folder, faults: Faults) -> None:
        self._root, self._files, self._faults = folder.root, folder.files, faults

    @property
    def paths(self) -> list[str]:
        """All images."""
        return paths_having(self._files, self._files, SUFFIXES)

    @cached_property
    def _known(self) -> set[str]:
        start = len(self._root.as_posix().rstrip("/")) + 1
        return {path[start:] for path in self.paths}

    @cached_property
    def _ends(self) -> dict[str, list[str]]:
        """Names by their last word, see `folded`."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._known):
            found.setdefault(folded(posixpath.basename(name)), []).append(name)
        return found

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        """Names by what stands before their ending."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._known):
            found.setdefault(posixpath.splitext(name)[0], []).append(name)
        return found

    def find(self, name: str, *beside: str) -> str | None:
        """The image that a name means, relative to the folder: nothing where none does, or several may.

        name     as a label file writes it: with backslashes, percent signs, of another machine
        beside   folders below this one that it may be relative to
        """
        for folder in beside or ("",):
            plain = posixpath.normpath(posixpath.join(folder, name))
            if plain in self._known:
                return plain
        found = next(self._search(name, beside), None)
        if found is None:
            return None
        kind, path = found
        self._faults.add(kind, name)
        return path

    def of_stem(self, stem: str, beside: str) -> str | None:
        """The one image in a folder that is called like its label file."""
        found = self._stems.get(posixpath.join(beside, stem), [])
        return found[0] if len(found) == 1 else None

    def report_missing(self, name: str, who: str) -> None:
        """Say that there is no image of this name. who: what names it."""
        self._faults.add(
            MISSING_IMAGE,
            name or who,
            f"{who} names the image {name!r}, which is not below {self._root}; restore it or remove {who}",
        )

    def size(self, name: str, stated: tuple[int | None, int | None] | None) -> tuple[int, int] | None:
        """(height, width) as stated where that can be, else as the header says; nothing where that cannot be read.

        stated   None in a format that states no sizes
        """
        height, width = stated or (None, None)
        if height and width and 0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE:
            return height, width
        try:
            size = probe(self._root / name).size
        except (OSError, ValueError) as error:
            self._faults.add(NO_SIZE, name, str(error))
            return None
        if stated is not None:
            self._faults.add(SIZE_FOUND, name)
        return size

    def _search(self, name: str, beside: Sequence[str]) -> Iterator[tuple[Kind, str]]:
        """Images that a name may mean, the likeliest first, and how it differs from theirs."""
        for kind, spelt in ((FOLDERS, name), *spellings(name)):
            for folder in (*beside, ""):
                path = posixpath.normpath(posixpath.join(folder, spelt))
                if path in self._known:
                    yield kind, path
            found = self._by_end(spelt)
            if found is not None:
                is_same = posixpath.basename(found) == posixpath.basename(spelt)
                yield ADDRESS if "://" in spelt else FOLDERS if is_same else LETTERS, found

    def _by_end(self, name: str) -> str | None:
        """The one image whose last words are those of a name, in whatever case; of several that with the most."""
        words = folded(name).split("/")
        best: list[str] = []
        most = 0
        for candidate in self._ends.get(words[-1], []):
            agreeing = _agreeing(folded(candidate).split("/"), words)
            if agreeing > most:
                best, most = [], agreeing
            best += [candidate] if agreeing == most else []
        return best[0] if len(best) == 1 else None


def _agreeing(one: list[str], other: list[str]) -> int:
    """Number of last words that are the same."""
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count
