"""What lies below a split's folder and belongs to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from maskrcnn.data.formats.source import Part, part_of

TRIED = 20
"""Files of a folder that are looked at: where there are many more, each is of one image."""


def of_part(folders: Iterable[Path], labels: Path, part: Part) -> list[Path]:
    """The folders, among some below `labels`, that a split means.

    Where the names of some say that they belong to it, as those of a/train and b/train do, these; else all whose names
    say nothing.

    >>> root = Path("set")
    >>> [path.as_posix() for path in of_part([root / "a/train", root / "a/val", root / "c"], root, "train")]
    ['set/a/train']
    >>> [path.as_posix() for path in of_part([root / "train", root / "train/more"], root / "train", "train")]
    ['set/train', 'set/train/more']
    """
    below = [(path, part_of(path.relative_to(labels))) for path in folders if path.is_relative_to(labels)]
    wanted = part if any(found == part for _, found in below) else ""
    return [path for path, found in below if found == wanted]


def first_having(files: Mapping[Path, Sequence[str]], *suffixes: str) -> Iterator[Path]:
    """The first `TRIED` files of each folder that have one of these endings, for formats of one file for all images."""
    for folder, names in files.items():
        yield from islice((folder / name for name in names if name.lower().endswith(suffixes)), TRIED)


def paths_having(
    files: Mapping[Path, Sequence[str]], folders: Iterable[Path], suffixes: str | tuple[str, ...]
) -> list[str]:
    """The files of some folders with one of these endings, as texts: a hundred thousand paths would take a second.

    files   names of the files of each folder
    """
    return [
        prefix + name
        for prefix, folder in ((f"{folder.as_posix().rstrip('/')}/", folder) for folder in folders)
        for name in files[folder]
        if name.lower().endswith(suffixes)
    ]
