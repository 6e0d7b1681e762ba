"""Images that a person names: files, folders and patterns, on disk or in a store."""

from collections.abc import Iterable
from glob import glob
from pathlib import Path

from maskrcnn.storage.fetch import exists
from maskrcnn.storage.find import has_pattern, matching
from maskrcnn.storage.location import Location, Where, at
from maskrcnn.storage.store import children

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
"""What counts as an image in a folder; a file named outright may have any ending."""


def find_images(sources: Iterable[Where]) -> list[Path | Location]:
    """The files that files, folders (images directly inside) and globs mean, each once, sorted within a source."""
    found: dict[Path | Location, None] = {}
    for source in sources:
        place = at(source)
        found.update(dict.fromkeys(_local_images(place) if isinstance(place, Path) else _remote_images(place)))
    return list(found)


def _local_images(path: Path) -> list[Path]:
    path = path.expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    else:
        files = [path] if path.is_file() else sorted(Path(name) for name in glob(str(path), recursive=True))
        files = [file for file in files if file.is_file()]
    if not files:
        where = f"in the folder {path}" if path.is_dir() else f"at {path} (working directory {Path.cwd()})"
        raise FileNotFoundError(f"no images {where}; expected an image, a folder of them or a glob")
    return files


def _remote_images(location: Location) -> list[Location]:
    if location.is_web or exists(location):
        return [location]
    files = [location / one.key for one in children(location)]
    files = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not files and has_pattern(location):
        files = list(matching(location))
    if not files:
        raise FileNotFoundError(f"no images at {location}; expected an image, a folder of them or a glob")
    return files


def is_one_file(source: Where) -> bool:
    """Whether a text names one image rather than a folder or a pattern."""
    place = at(source)
    if isinstance(place, Path):
        return place.expanduser().is_file()
    return place.is_web or exists(place)
