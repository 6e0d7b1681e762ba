"""Images that a person names: files, folders and patterns, on disk or in a store."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from glob import glob
from itertools import islice
from pathlib import Path, PurePosixPath

from maskrcnn.data.formats.source import walk
from maskrcnn.data.name_ranges import expanded
from maskrcnn.data.tar_members import TAR, fetched_tar, index_of
from maskrcnn.sentences import Note, some_of, typed
from maskrcnn.storage.fetch import exists
from maskrcnn.storage.find import has_pattern, matching
from maskrcnn.storage.location import Location, Where, at
from maskrcnn.storage.store import children, listing

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif", ".avif"),
    *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c", ".jpx", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".npy"),
)
"""What counts as an image in a folder; a file named outright may have any ending."""
SILENT = ("thumbs.db", "desktop.ini")
"""Files that Windows leaves in folders of images: nobody asks why they are left out. Nor of hidden ones."""
FAR_ENOUGH = 1000
"""Number of folders, or of objects of a store, among which images that lie deeper are looked for."""

Named = dict[Path | Location, PurePosixPath]
"""Images, and the name of each below the folder that was named."""


def find_images(sources: Iterable[Where], *, recursive: bool = False, without: Path | None = None) -> Named:
    """The images that files, folders, tars and globs mean, each once, sorted within a source, and their names below it.

    recursive   whether images in folders below a folder count
    without     a folder that is passed over, such as the one where results go
    Warns with a `Note` of what else a folder holds. Raises FileNotFoundError where a source holds no image.
    """
    found: Named = {}
    for source in sources:
        place = at(source)
        if isinstance(place, Path):
            images = _on_disk(place.expanduser(), recursive, without)
        else:
            images = _in_store(place, recursive)
        for path, name in images.items():
            found.setdefault(path, name)
    return found


def is_one_file(source: Where) -> bool:
    """Whether a text names one image rather than a folder or a pattern."""
    place = at(source)
    if isinstance(place, Path):
        return place.expanduser().is_file()
    return place.is_web or exists(place)


def is_image(name: str) -> bool:
    """Whether a file's name ends as that of an image."""
    return name.lower().endswith(SUFFIXES)


def _on_disk(path: Path, recursive: bool, without: Path | None) -> Named:
    if path.is_dir():
        return _in_folder(path, recursive, without)
    files = [path] if path.is_file() else [Path(one) for one in _globbed(path)]
    images: Named = {}
    for file in filter(Path.is_file, files):
        images |= _in_tar(file, file) if _is_tar(file.name) else {file: PurePosixPath(file.name)}
    if not images:
        raise _none_there(f"at {path} (working directory {Path.cwd()})")
    return images


def _globbed(path: Path) -> Iterator[str]:
    """Files that a pattern means. Raises FileNotFoundError where a range of numbers in it names one that is missing."""
    names = list(expanded(path.name))
    for name in names:
        found = sorted(glob(str(path.with_name(name)), recursive=True))
        if not found and len(names) > 1:
            raise FileNotFoundError(f"{path} names {name}, which is missing; complete the files or correct the range")
        yield from found


def _is_tar(name: str) -> bool:
    return name.lower().endswith(TAR)


def _in_tar(tar: Path, where: Path | Location) -> Named:
    """Images in a tar, as they lie in it. where: what they are named by, the tar or its address."""
    names = [one.name for one in index_of(tar).in_order() if is_image(one.name)]
    return {where / name: PurePosixPath(tar.stem, name) for name in names}


def _in_folder(folder: Path, recursive: bool, without: Path | None) -> Named:
    images: Named = {}
    others: list[str] = []
    closed: list[str] = []
    avoided = None if without is None else without.resolve()
    listed = (one for one in walk(folder, closed.append) if avoided is None or avoided not in _around(one[0]))
    for below, names in islice(listed, None if recursive else 1):
        for path in (below / name for name in names):
            name = PurePosixPath(path.relative_to(folder).as_posix())
            if is_image(path.name) and path.is_file():
                images[path] = name
            else:
                others.append(str(name))
    others += [f"{Path(one).relative_to(folder)} (may not be read)" for one in closed]
    _tell(f"in the folder {folder}", images, others, "" if recursive else _deeper(folder))
    return images


def _around(folder: Path) -> Sequence[Path]:
    real = folder.resolve()
    return real, *real.parents


def _deeper(folder: Path) -> str:
    """An image in a folder below, by its name from there; empty where none is near."""
    for below, names in islice(walk(folder), 1, FAR_ENOUGH):
        for name in filter(is_image, names):
            return (below / name).relative_to(folder).as_posix()
    return ""


def _in_store(location: Location, recursive: bool) -> Named:
    if _is_tar(location.key):
        tars = [location] if location.is_web or not has_pattern(location) else list(matching(location))
        named = [replace(one, key=key) for one in tars for key in expanded(one.key)]
        images = {path: name for tar in named for path, name in _in_tar(fetched_tar(tar), tar).items()}
        if not images:
            raise _none_there(f"at {location}")
        return images
    if location.is_web or exists(location):
        return {location: PurePosixPath(location.name or "image")}
    keys = [one.key for one in (listing if recursive else children)(location)]
    images = {location / key: PurePosixPath(key) for key in keys if is_image(key)}
    if not images and has_pattern(location):
        images = {one: PurePosixPath(one.name) for one in matching(location)}
        if not images:
            raise _none_there(f"at {location}")
        return images
    deeper = "" if recursive or images else _deeper_in_store(location)
    _tell(f"at {location}", images, [key for key in keys if not is_image(key)], deeper)
    return images


def _deeper_in_store(location: Location) -> str:
    return next((one.key for one in islice(listing(location), FAR_ENOUGH) if is_image(one.key)), "")


def _tell(where: str, images: Named, others: Sequence[str], deeper: str) -> None:
    """Say what a folder holds that is not looked at, in one line; raise FileNotFoundError where nothing else is."""
    asked = [name for name in others if PurePosixPath(name).name.lower() not in SILENT]
    left_out = f"left out {some_of(asked)} (read: {', '.join(SUFFIXES)})"
    below = f"images that lie deeper, such as {deeper}, need {typed('a pattern with **')}"
    told = [*([left_out] if asked else []), *([below] if deeper else [])]
    if not images:
        raise _none_there(where, told)
    if told:
        warnings.warn(f"{where}: {'; '.join(told)}", Note, stacklevel=2)


def _none_there(where: str, told: Sequence[str] = ()) -> FileNotFoundError:
    return FileNotFoundError("; ".join([f"no images {where}", *told, "expected an image, a folder of them or a glob"]))
