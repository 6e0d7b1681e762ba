"""What lies in a folder: its files, listed once, and the splits that a format finds among them."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from maskrcnn.files import is_special
from maskrcnn.run_folder import RESULTS_IN, RUNS, is_run

Part = Literal["train", "val", "test", ""]
"""A split by name; empty where a folder does not say which one it holds."""
PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "trainval": "",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Words of file and folder names that mean a split."""
DEEPEST = 12
"""Number of folders within each other that are looked into."""
SYSTEM = {"__MACOSX", ".git", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN"}
"""Folders that systems leave and nobody means."""


@dataclass(frozen=True)
class Source:
    """One split of a data set as it lies on disk."""

    format: str
    """Name of the format: the module in `data/formats` that reads it."""
    part: Part
    labels: Path
    """The annotation file, or the folder of label files."""
    images: Path
    """The folder of the images."""
    why: str
    """What tells that it is this, for one sentence: `data.yaml names images/train`."""
    names: Path | None = None
    """The file that lists the classes, or the images, where the format has one."""


@dataclass(frozen=True)
class Folder:
    """A folder and all files below it, listed once; hidden files and what systems leave is passed over."""

    root: Path

    @cached_property
    def files(self) -> dict[Path, list[str]]:
        """Names of the files of each folder, sorted; folders with the fewest parts first; those of runs left out."""
        return self._listed[0]

    @property
    def runs(self) -> list[Path]:
        """Folders of runs and their results, into which nobody looks."""
        return self._listed[1]

    @property
    def special(self) -> list[Path]:
        """Pipes, sockets and devices, which nobody opens: reading one may never end."""
        return self._listed[2]

    @cached_property
    def _listed(self) -> tuple[dict[Path, list[str]], list[Path], list[Path]]:
        runs: list[Path] = []
        special: list[Path] = []
        found = sorted(walk(self.root, runs=runs, special=special), key=lambda item: (len(item[0].parts), item[0]))
        return dict(found), runs, special

    def having(self, *suffixes: str) -> Iterator[Path]:
        """Files with one of these endings, in lower case, those of outer folders first."""
        for folder, names in self.files.items():
            yield from (folder / name for name in names if os.path.splitext(name)[1].lower() in suffixes)


def walk(
    root: Path,
    closed: Callable[[str], object] = str,
    runs: list[Path] | None = None,
    special: list[Path] | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with the names of its files, sorted, `root` first; each once, also where links lead to it.

    closed   called with each folder that may not be read
    runs     where to put folders below the root that hold what this package wrote, which are passed over then
    special  where to put pipes, sockets and devices, which are passed over then
    Hidden files and what systems leave is passed over. Raises OSError where `root` may not be read.
    """

    def lost(error: OSError) -> None:
        if error.filename == str(root):
            raise error
        closed(str(error.filename))

    seen = set()
    for folder, below, names in os.walk(root, onerror=lost, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or folder.count(os.sep) - str(root).count(os.sep) > DEEPEST:
            below.clear()
        if real in seen:
            continue
        seen.add(real)
        if runs is not None and folder != str(root) and _is_written(folder, below, names):
            runs.append(Path(folder))
            below.clear()
            continue
        below[:] = sorted(name for name in below if name not in SYSTEM and not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))
        if special is not None:
            strange = {name for name in shown if is_special(Path(folder, name))}
            special += [Path(folder, name) for name in sorted(strange)]
            shown = [name for name in shown if name not in strange]
        yield Path(folder), shown


def _is_written(folder: str, below: Iterable[str], names: Iterable[str]) -> bool:
    """Whether a folder holds a run, weights, or, as `runs`, results of this package's commands."""
    return is_run({*below, *names}) or (os.path.basename(folder) == RUNS and not RESULTS_IN.isdisjoint(below))


def part_of(path: Path) -> Part:
    """The split that the words of a file's or folder's name tell, or that of a folder around it.

    >>> part_of(Path("data/valid/_annotations.coco.json")), part_of(Path("instances_train2017.json"))
    ('val', 'train')
    """
    for name in reversed(path.parts):
        words = "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()
        found = [PARTS[word] for word in words if word in PARTS]
        if found:
            return found[0]
    return ""
