"""The images of a data set, put into another folder."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import read_image
from maskrcnn.data.tar_members import tar_of
from maskrcnn.files import FULL, check_room
from maskrcnn.storage.location import Location

NO_TEXT = re.compile("[\ud800-\udfff]")
"""Bytes of a file's name that are no UTF-8, as Python holds them."""


def place(data: Dataset, folder: Path, *, by_stem: bool = False, moved: Callable[[str], str] = str) -> list[str]:
    """Put all images of a data set below a folder and give their names there, with `/`, in the order of the data set.

    by_stem   names differ before their ending too, because each image has a label file of its own
    moved     gives the name that the format wants for a name, such as one in a folder of its own
    Images are linked where the file system can, else copied. Names and subfolders stay; a second image of one name, in
    whatever case, gets a number. A file that lies there already is replaced.
    Raises FileNotFoundError for an image that does not exist, DiskFull where there is no room for all of them, and
    OSError where one cannot be written.
    """
    names = distinct_names(data.file_names, by_stem=by_stem, moved=moved)
    check_room(folder, _copied_bytes(data, folder))
    for file_name, name in zip(data.file_names, names, strict=True):
        try:
            _put(data.images / file_name, folder / name)
        except OSError as error:
            if error.errno is None or error.errno in FULL:  # it is a sentence, or becomes one
                raise
            raise OSError(
                f"the image {file_name} cannot be written to {folder / name} ({error.strerror}); give it another name, "
                "or choose another folder"
            ) from None
    return names


def _copied_bytes(data: Dataset, folder: Path) -> int:
    """Bytes of the images that lie on another disk than a folder, so that they cannot be linked."""
    if isinstance(data.images, Location):
        return 0
    disk, total = _disk(next(one for one in (folder, *folder.absolute().parents) if one.exists())), 0
    for name in data.file_names:
        with suppress(OSError):  # told of when it is its turn
            state = (data.images / name).stat()
            total += state.st_size if state.st_dev != disk else 0
    return total


def _disk(path: Path) -> int:
    return path.stat().st_dev


def distinct_names(file_names: Sequence[str], *, by_stem: bool = False, moved: Callable[[str], str] = str) -> list[str]:
    """Names that stay inside a folder and of which no two are one file, also not where they are moved to.

    >>> distinct_names(["a/1.png", "../1.png", "A/1.PNG", "C:\\\\b\\\\1.jpg"])
    ['a/1.png', '1.png', 'A/1-2.PNG', '1.jpg']
    >>> distinct_names(["1.png", "1.jpg"], by_stem=True)
    ['1.png', '1-2.jpg']
    >>> distinct_names(["a/1.png", "a_1.png"], moved=lambda name: name.replace("/", "_"))
    ['a_1.png', 'a_1-2.png']
    """
    taken: set[str] = set()
    found = []
    for file_name in file_names:
        path = _inside(file_name)
        name, number = PurePosixPath(moved(path.as_posix())), 1
        while _key(name, by_stem) in taken:
            number += 1
            name = PurePosixPath(moved(path.with_stem(f"{path.stem}-{number}").as_posix()))
        taken.add(_key(name, by_stem))
        found.append(name.as_posix())
    return found


def _key(name: PurePosixPath, by_stem: bool) -> str:
    return str(name.with_suffix("") if by_stem else name).casefold()


def _inside(file_name: str) -> PurePosixPath:
    """A name without what leads out of a folder: `..`, and all folders of an absolute path; bytes of it that are no
    text, which label files cannot hold, become `_`."""
    parts = NO_TEXT.sub("_", file_name).replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":"):
        parts = parts[-1:]
    parts = [part for part in parts if part not in ("", ".", "..")]
    return PurePosixPath(*parts or ["image"])


def _put(source: Path | Location, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Location) or tar_of(source) is not None:
        target.write_bytes(read_image(source))
    else:
        _link(source, target)


def _link(source: Path, target: Path) -> None:
    if not source.is_file():
        raise FileNotFoundError(f"the image {source} does not exist; restore it or leave it out")
    with suppress(FileNotFoundError):
        if source.samefile(target):
            return
        target.unlink()
    try:
        os.link(source.resolve(), target)  # of what a symbolic link means
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
