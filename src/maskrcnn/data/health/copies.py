"""One image under two names, or in two splits: the same file, the same bytes, or nearly the same view."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import length_of, open_file
from maskrcnn.data.faults import EXAMPLES, Kind, Severity
from maskrcnn.data.health.findings import Finding, image_name, of_images
from maskrcnn.data.health.survey import Survey

END = 4096
"""Bytes at the end of a file that tell most images of one length apart."""

SAME_FILE = Kind(
    "image-listed-twice", "images", Severity.WARNING, "are the file of another entry", "the entries become one"
)
TWIN = Kind(
    "image-twice", "images", Severity.WARNING, "are, byte by byte, another image of their split", "the two become one"
)
TWIN_ACROSS = Kind(
    "image-in-two-splits",
    "validation images",
    Severity.WARNING,
    "are, byte by byte, an image of training: scores come out too high",
    "the image is left out of training, if others stay there",
)
NEAR = Kind("image-nearly-twice", "images", Severity.NOTE, "show nearly the same as another of their split")
NEAR_ACROSS = Kind(
    "image-nearly-in-two-splits",
    "validation images",
    Severity.WARNING,
    "show nearly the same as an image of training: scores come out too high",
)

Place = tuple[str, int]
"""A split's name and the index of an image in it."""


def listed_twice(data: Dataset) -> Int64[np.ndarray, " N"]:
    """The first image that has the same file, for each image: itself where there is none."""
    seen: dict[str, int] = {}
    return np.array(
        [seen.setdefault(os.path.normpath(name), row) for row, name in enumerate(data.file_names)], np.int64
    )


def same_bytes(surveys: Mapping[str, Survey]) -> dict[Place, Place]:
    """The first image of the same bytes, for each that has one in an earlier place; splits in their order.

    Files of one length are compared by their last bytes, then by all; a file that is listed twice is itself.
    """
    places: list[list[Place]] = [
        [(split, row) for split, found in surveys.items() for row, one in enumerate(found.seen) if one.kind is None]
    ]

    def path_of(place: Place) -> Path:
        return surveys[place[0]].paths[place[1]]

    keys: tuple[Callable[[Place], Hashable], ...] = (
        lambda place: surveys[place[0]].seen[place[1]].bytes,
        lambda place: _digest(path_of(place), END),
        lambda place: _digest(path_of(place), None),
    )
    for key in keys:
        places = [part for group in places for part in _parted(group, key)]
    return {place: group[0] for group in places for place in group[1:]}


def copy_faults(datasets: Mapping[str, Dataset], surveys: Mapping[str, Survey]) -> Iterator[tuple[str, Finding]]:
    """(split, finding) of images that are listed twice, or whose bytes are those of another."""
    for split, data in datasets.items():
        first = listed_twice(data)
        rows = np.flatnonzero(first != np.arange(len(first))).tolist()
        pairs = {(split, row): (split, int(first[row])) for row in rows}
        yield from ((split, found) for found in _told(SAME_FILE, datasets, pairs))
    firsts = {place: first for place, first in same_bytes(surveys).items() if not _is_one_entry(datasets, place, first)}
    yield from _sorted_out(TWIN, TWIN_ACROSS, datasets, firsts)


def near_faults(
    datasets: Mapping[str, Dataset], groups: Mapping[str, Int64[np.ndarray, " _"]], surveys: Mapping[str, Survey]
) -> Iterator[tuple[str, Finding]]:
    """(split, finding) of images that show nearly the same as another, those of the same bytes left out.

    groups   of each split's images, a number that those share which show nearly the same
    """
    known = same_bytes(surveys)
    listed = {split: listed_twice(data) for split, data in datasets.items()}
    seen: dict[int, list[Place]] = defaultdict(list)
    firsts: dict[Place, Place] = {}
    for split, numbers in groups.items():
        for row, number in enumerate(numbers.tolist()):
            place = (split, row)
            if place in known or listed[split][row] != row:
                continue
            across = [one for one in seen[number] if one[0] != split]
            if seen[number]:
                firsts[place] = (across or seen[number])[0]
            seen[number].append(place)
    yield from _sorted_out(NEAR, NEAR_ACROSS, datasets, firsts)


def _parted(group: Iterable[Place], key: Callable[[Place], Hashable]) -> Iterator[list[Place]]:
    """Split a group by a key, and keep the parts that have several."""
    parts: dict[Hashable, list[Place]] = defaultdict(list)
    for place in group:
        parts[key(place)].append(place)
    return (part for part in parts.values() if len(part) > 1)


def _digest(path: Path, last: int | None) -> bytes:
    """A digest of a file, or of its last bytes; of a file that vanished meanwhile, one of its name."""
    try:
        with open_file(path) as file:
            if last is not None:
                file.seek(max(0, length_of(file) - last))
            digest = blake2b(digest_size=16)
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.digest()
    except OSError:
        return os.fsencode(path)


def _is_one_entry(datasets: Mapping[str, Dataset], place: Place, first: Place) -> bool:
    """Whether two places of one split name one file."""
    names = datasets[place[0]].file_names
    return place[0] == first[0] and os.path.normpath(names[place[1]]) == os.path.normpath(names[first[1]])


def _sorted_out(
    inside: Kind, across: Kind, datasets: Mapping[str, Dataset], firsts: Mapping[Place, Place]
) -> Iterator[tuple[str, Finding]]:
    for split in datasets:
        own = {place: first for place, first in firsts.items() if place[0] == split}
        for kind, is_across in ((inside, False), (across, True)):
            chosen = {place: first for place, first in own.items() if (first[0] != split) == is_across}
            yield from ((split, found) for found in _told(kind, datasets, chosen))


def _told(kind: Kind, datasets: Mapping[str, Dataset], firsts: Mapping[Place, Place]) -> Iterator[Finding]:
    """A finding about images of one split, each told beside its first."""
    if firsts:
        split = next(iter(firsts))[0]
        told = [f" is {image_name(datasets[first[0]], first[1])}" for first in list(firsts.values())[:EXAMPLES]]
        rows = np.array([row for _, row in firsts], np.int64)
        yield from of_images(kind, datasets[split], rows, told=told)
