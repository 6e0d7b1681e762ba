"""A share of many images in, one file of predictions out, there whole or not at all: for jobs of many tasks."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

from maskrcnn.data.pages import Page
from maskrcnn.data.sources import find_images
from maskrcnn.files import lock, sync
from maskrcnn.fonts import note_unreadable
from maskrcnn.instances import Instances
from maskrcnn.predict import Predictor
from maskrcnn.predict_files import Targets, predicted
from maskrcnn.prediction_rows import Form, read_rows, writer
from maskrcnn.runtime.warm import DRAWN, ENCODED, warm
from maskrcnn.sentences import some_of
from maskrcnn.storage.fetch import exists
from maskrcnn.storage.location import Location, Where
from maskrcnn.storage.read import read_bytes
from maskrcnn.storage.store import children
from maskrcnn.storage.write import check_writable, write_object

MOST_TOGETHER = 32
"""Files that share batches at most."""
GROUPS = 1024
"""Groups of files that a list is divided into at least, as far as it has so many files."""
PIECE = re.compile(r"predictions-(\d{5,})-of-(\d{5,})\.(\w+)")
WHOLE = "predictions"
"""Name of the joined file before its ending."""


class Shard(NamedTuple):
    """One share of the work."""

    number: int
    """From 0."""
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def name(self, form: Form) -> str:
        """The name of its file.

        >>> Shard(3, 10).name("jsonl")
        'predictions-00003-of-00010.jsonl'
        """
        return f"predictions-{self.number:05d}-of-{self.total:05d}.{form}"


class Done(NamedTuple):
    """What a shard's file holds."""

    num_images: int
    num_objects: int
    failures: list[str]
    """Why images could not be read; their lines say so too."""


def parse_shard(text: str) -> Shard:
    """The shard that a text such as `3/10` means. Raises ValueError for another.

    >>> parse_shard("3/10")
    Shard(number=3, total=10)
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise ValueError(f"expected --shard I/N with I from 0 to N - 1, such as 3/10, received {text}")
    return Shard(int(found[1]), int(found[2]))


def num_together(total: int) -> int:
    """How many files of a list share batches: groups are counted from its beginning, so that each image's result is
    the same to the last bit in however many shards the list is worked on.

    >>> num_together(10), num_together(10_000), num_together(1_000_000)
    (1, 9, 32)
    """
    return max(1, min(MOST_TOGETHER, total // GROUPS))


def share(total: int, shard: Shard) -> slice:
    """The images of a shard: whole groups, one after the other, so that all files together are in order.

    >>> [share(10, Shard(index, 4)) for index in (0, 1)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    size = num_together(total)
    groups = -(-total // size)
    first, last = (number * groups // shard.total * size for number in (shard.number, shard.number + 1))
    return slice(min(first, total), min(last, total))


def is_done(place: Path | Location, shard: Shard, form: Form) -> bool:
    """Whether a shard's file is there."""
    return exists(place / shard.name(form))


def predict_shard(
    predictor: Predictor,
    sources: Iterable[Where],
    place: Path | Location,
    shard: Shard,
    form: Form = "jsonl",
    score: float = 0.5,
    *,
    recursive: bool = False,
    draw: bool = False,
) -> Done:
    """Predict a shard's images and write its file.

    place   a folder, or an address in a store
    draw    whether images with their objects are written to the folder as well
    An image that cannot be read is a row with `error`. Raises ValueError where drawings would go to a store.
    """
    if draw and isinstance(place, Location):
        raise ValueError(f"--draw writes to a folder on this machine, received {place}; leave it out or choose another")
    names = find_images(sources, recursive=recursive, without=place if isinstance(place, Path) else None)
    chosen = list(names)[share(len(names), shard)]
    targets = Targets(names, place) if draw and isinstance(place, Path) else None
    warm([*ENCODED, *(DRAWN if draw else ())])
    note_unreadable(predictor.classes)
    failures: list[str] = []
    counts: Counter[str] = Counter()
    with landing(place, shard.name(form)) as stream, writer(stream, form) as write:
        for page, result in predicted(predictor, chosen, score, num_together(len(names))):
            if isinstance(result, str):
                failures.append(result)
            else:
                counts["objects"] += len(result)
                if targets is not None:
                    result.save(targets.of(page))
            counts["images"] += 1
            write(row(page, result))
    return Done(counts["images"], counts["objects"], failures)


def rows_of_group(predictor: Predictor, paths: Sequence[Path | Location], score: float) -> Iterator[dict[str, Any]]:
    """Yield a row for each image of one group of a list, see `num_together`: those that its shard's file has."""
    for page, result in predicted(predictor, paths, score):
        yield row(page, result)


def row(page: Page, result: Instances | str) -> dict[str, Any]:
    """What is written of an image: file, page where there are several, size and objects, or why there are none."""
    found: dict[str, Any] = {"file": str(page.path), **({"page": page.number} if page.number else {})}
    if isinstance(result, str):
        return {**found, "error": result}
    objects = [
        {"category": name, **{key: value for key, value in entry.items() if key != "image_id"}}
        for entry, name in zip(result.to_coco(), result.names, strict=True)
    ]
    return {**found, "height": result.size[0], "width": result.size[1], "objects": objects}


def join(
    sources: Iterable[Where], place: Path | Location, form: Form = "jsonl", *, recursive: bool = False
) -> tuple[str, int]:
    """Join the files of all shards, in order, to one; gives its name and the number of shards.

    Raises FileNotFoundError where one is missing, and ValueError where they are of several divisions, or of other
    images than the sources hold.
    """
    found = [(Shard(int(match[1]), int(match[2])), name) for name in _names(place) if (match := PIECE.fullmatch(name))]
    pieces = sorted(one for one in found if one[1].endswith(f".{form}"))
    totals = sorted({shard.total for shard, _ in pieces})
    if len(totals) > 1:
        raise ValueError(f"{place} holds shards of {some_of([f'{one}' for one in totals])}; keep those of one division")
    if not pieces:
        raise FileNotFoundError(f"{place} holds no shards of predictions as {form}; run with --shard I/N first")
    there, total = {shard.number for shard, _ in pieces}, totals[0]
    missing = [f"--shard {index}/{total}" for index in range(total) if index not in there]
    if missing:
        raise FileNotFoundError(f"{place} lacks {some_of(missing, 5)} of {total}; repeat them")
    names = find_images(sources, recursive=recursive, without=place if isinstance(place, Path) else None)
    expected = [str(path) for path in names]
    with landing(place, f"{WHOLE}.{form}") as stream, writer(stream, form) as write:
        for shard, name in pieces:
            files = []
            with _opened(place / name) as piece:
                for one in read_rows(piece, form):
                    files.append(one["file"])
                    write(one)
            if [file for file, _ in groupby(files)] != expected[share(len(expected), shard)]:
                raise ValueError(
                    f"{place / name} is not of the images that the sources hold; remove it and repeat --shard {shard}"
                )
    return f"{WHOLE}.{form}", total


@contextmanager
def landing(place: Path | Location, name: str) -> Iterator[IO[bytes]]:
    """A stream whose content becomes a file in a folder or a store: all of it in the end, or nothing on an error.

    What a process that was killed had begun to write to a folder is removed first.
    """
    if isinstance(place, Location):
        check_writable(place)
        with tempfile.TemporaryFile() as stream:
            yield stream
            stream.flush()
            write_object(place / name, stream)
        return
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place, name)
    draft = place / f".{name}.{uuid4().hex}.part"
    try:
        with draft.open("xb") as stream:
            lock(stream)
            yield stream
            stream.flush()
            sync(draft)
            draft.replace(place / name)
        sync(place)
    finally:
        draft.unlink(missing_ok=True)


def _sweep(folder: Path, name: str) -> None:
    """Remove drafts of a file that no process writes any more."""
    for draft in folder.glob(f".{name}.*.part"):
        with suppress(OSError), draft.open("rb+") as stream:
            if lock(stream):
                draft.unlink()


def _names(place: Path | Location) -> list[str]:
    if isinstance(place, Location):
        return [entry.key for entry in children(place)]
    return [path.name for path in place.iterdir()] if place.is_dir() else []


@contextmanager
def _opened(where: Path | Location) -> Iterator[IO[bytes]]:
    if isinstance(where, Path):
        with where.open("rb") as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as stream:
        stream.write(read_bytes(where))
        stream.seek(0)
        yield stream
