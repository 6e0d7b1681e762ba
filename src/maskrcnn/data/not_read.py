"""Files that seem to hold labels and are not read, and folders that are not looked into: each with the reason."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskrcnn.data.formats import coco_folders
from maskrcnn.data.formats.below import TRIED
from maskrcnn.data.formats.source import Folder, Source
from maskrcnn.data.formats.strange_file import ENDINGS, what_it_is
from maskrcnn.data.sources import is_image
from maskrcnn.run_folder import SPLIT
from maskrcnn.sentences import some_of

REPAIRS = "repairs.json"
"""The list of repairs in a repaired copy, for programs."""
OWN = {SPLIT, REPAIRS}
"""JSON files that this package writes beside data."""
LABELS_OF = {"labelme": ".json", "cityscapes": ".json", "voc": ".xml", "shards": ".tar"}
"""Endings of the label files of formats that have many; their readers tell of strange ones among them."""
ARRAY = ".npy"
"""Ending of images, and of masks beside images of another ending."""
SHOWN = 2
"""Names of files of one kind that are shown."""


def not_read(folder: Folder, sources: Sequence[Source]) -> list[str]:
    """What lies in a folder and is not read, a sentence for files and one for runs; nothing where all is.

    sources   what was recognised in it, read or not
    """
    told = _told(folder, sources)
    return [*([f"not read: {told}"] if told else []), *_runs(folder)]


def _told(folder: Folder, sources: Sequence[Source]) -> str:
    known = {path for source in sources for path in (source.labels, source.names)}
    reasons = {path: why for path, why in coco_folders.passed_over(folder).items() if path not in known}
    reasons |= dict.fromkeys(folder.special, "a pipe, socket or device, not a file")
    looked_at: Counter[tuple[Path, str]] = Counter()
    for path in _candidates(folder, sources):
        if path not in known and path not in reasons:
            looked_at[kind := (path.parent, path.suffix.lower())] += 1
            reasons[path] = what_it_is(path) if looked_at[kind] <= TRIED else "not looked at"
    groups: dict[str, list[str]] = {}
    for path, why in reasons.items():
        groups.setdefault(why, []).append(path.relative_to(folder.root).as_posix())
    return ", ".join(f"{some_of(names, SHOWN)} ({_of_each(why, len(names))})" for why, names in groups.items())


def _of_each(why: str, number: int) -> str:
    """A reason that is put for one file, as it is put for several.

    >>> _of_each("it is an archive", 2), _of_each("not looked at", 2)
    ('each is an archive', 'not looked at')
    """
    return f"each {why[3:]}" if number > 1 and why.startswith("it ") else why


def _candidates(folder: Folder, sources: Sequence[Source]) -> Iterator[Path]:
    """Files that may hold labels, but for those that readers look at."""
    read = [(_home(one), LABELS_OF[one.format]) for one in sources if one.format in LABELS_OF]
    images = {one.images for one in sources}
    for place, names in folder.files.items():
        if not images.isdisjoint((place, *place.parents)):
            names = _without_arrays(names)
        endings = tuple(ending for home, ending in read if place.is_relative_to(home))
        for name in names:
            if name.lower().endswith(ENDINGS) and not name.lower().endswith(endings) and name not in OWN:
                yield place / name


def _without_arrays(names: list[str]) -> list[str]:
    """Names of files among images, but for arrays, which are the images where no others lie.

    >>> _without_arrays(["1.npy", "a.json"]), _without_arrays(["1.png", "1_seg.npy"])
    (['a.json'], ['1.png', '1_seg.npy'])
    """
    others = [name for name in names if not name.lower().endswith(ARRAY)]
    return names if any(map(is_image, others)) else others


def _home(source: Source) -> Path:
    """The folder around the label files; VOC's XML files lie beside its masks, tars are the images' folder."""
    if source.format == "shards":
        return source.images
    return source.labels.parent if source.format == "voc" else source.labels


def _runs(folder: Folder) -> list[str]:
    names = [path.relative_to(folder.root).as_posix() for path in folder.runs]
    return [f"not looked into, since runs and results lie there: {some_of(names, SHOWN)}"] if names else []
