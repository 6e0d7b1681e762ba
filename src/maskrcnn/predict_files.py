"""Files in, drawings and `predictions.json` out."""

import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from io import BufferedReader, BytesIO
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from maskrcnn.data.decode import open_file
from maskrcnn.data.levels import Levels, levels_of
from maskrcnn.data.levels import Pixels as Array
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.pages import Page, pages
from maskrcnn.data.parts import window_size
from maskrcnn.data.sources import Named, find_images
from maskrcnn.files import atomic_write
from maskrcnn.fonts import note_unreadable
from maskrcnn.instances import Instances
from maskrcnn.predict import Predictor
from maskrcnn.run_folder import PARTIAL, PREDICTIONS
from maskrcnn.runtime.warm import DRAWN, ENCODED, warm
from maskrcnn.sentences import Note, counted
from maskrcnn.storage.location import Location, Where

Decoded = Array | Path | str
"""An image, the path of one that is read part by part, or the sentence why it cannot be read."""
Opened = Callable[[], BytesIO | BufferedReader]
PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".heic", ".heif", ".hif")
"""Endings of images whose drawing is a JPEG; other drawings are PNG."""
LONGEST_NAME = 255
"""Bytes of a file's name that every usual disk takes."""
REMOTE_READERS = 8
"""Number of images of a store that are read at once."""


def predict_paths(
    predictor: Predictor,
    sources: Iterable[Where],
    out: str | Path,
    score: float = 0.5,
    progress: Callable[[Page, Instances | str], None] | None = None,
    *,
    recursive: bool = False,
) -> list[str]:
    """Write an image with its objects for each source, and `predictions.json`, to the folder `out`.

    sources     files, folders and globs, on disk or in a store; each page of a TIFF or an animation is an image
    progress    called after each image with its result, or with the sentence that says why there is none
    recursive   whether folders below a folder are searched too; drawings then lie in folders of the same names
    Returns those sentences: a file that cannot be read does not stop the others. `predictions.json` is a list of
    COCO results; image ids count from 1 in the order of the images, and each entry also names its file, its page where
    there are several, and its class.
    """
    out = Path(out)
    targets = Targets(find_images(sources, recursive=recursive, without=out), out)
    warm([*ENCODED, *DRAWN])
    note_unreadable(predictor.classes)
    entries: list[dict[str, Any]] = []
    failures: list[str] = []
    with _keeping_part(out, entries):
        for number, (page, result) in enumerate(predicted(predictor, list(targets.names), score), 1):
            if isinstance(result, str):
                failures.append(result)
            else:
                result.save(targets.of(page))
                entries += _entries(result, number, page)
            if progress is not None:
                progress(page, result)
    _write(out / PREDICTIONS, entries)
    (out / PARTIAL).unlink(missing_ok=True)
    return failures


@contextmanager
def _keeping_part(out: Path, entries: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Write what was found until a signal came, under a name that nobody takes for the whole."""
    try:
        yield
    except KeyboardInterrupt:
        images = len({entry["image_id"] for entry in entries})
        _write(out / PARTIAL, entries)
        warnings.warn(
            f"stopped before the last image: {counted(len(entries), 'objects')} in {counted(images, 'images')} are in "
            f"{out / PARTIAL}, and {PREDICTIONS} is not written",
            Note,
            stacklevel=2,
        )
        raise


def _write(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(entries)
    with atomic_write(path, needed=len(content)) as draft:
        draft.write_text(content, encoding="utf-8")


def _entries(result: Instances, number: int, page: Page) -> Iterator[dict[str, Any]]:
    more = {"page": page.number} if page.number else {}
    for entry, name in zip(result.to_coco(number), result.names, strict=True):
        yield {**entry, "category_name": name, "file_name": str(page.path), **more}


class FreeNames:
    """Names below a folder, no two of which are one file on any system.

    taken   names that lie there already
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.lower() for name in taken}

    def claim(self, name: PurePosixPath) -> PurePosixPath:
        """A name, cut where a disk takes no longer one, and with a number where another has it."""
        free, number = name.with_name(_cut(name.stem, name.suffix)), 1
        while free.as_posix().lower() in self._taken:
            number += 1
            free = name.with_name(_cut(name.stem, f"-{number}{name.suffix}"))
        self._taken.add(free.as_posix().lower())
        return free


class Targets:
    """Where drawings go: into `out`, by the names of their images, never onto a source or another drawing.

    names   of the images below their sources
    Raises ValueError where the drawing of an image would lie on a source.
    """

    def __init__(self, names: Named, out: Path) -> None:
        self.names = names
        self._out = out
        self._sources = {path.resolve() for path in names if isinstance(path, Path)}
        self._free = FreeNames(folder.as_posix() for name in names.values() for folder in name.parents)
        self._targets = {path: self._claim(name, name.stem) for path, name in names.items()}
        for path, target in self._targets.items():
            if target.resolve() in self._sources:
                raise ValueError(f"the drawing of {path} would overwrite {target}; choose another output folder")

    def of(self, page: Page) -> Path:
        """Where the drawing of an image goes, whose folder is made."""
        target, name = self._targets[page.path], self.names[page.path]
        while page.number and (target == self._targets[page.path] or target.resolve() in self._sources):
            target = self._claim(name, f"{name.stem}-page-{page.number}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _claim(self, name: PurePosixPath, stem: str) -> Path:
        suffix = ".jpg" if name.suffix.lower() in PHOTOS else ".png"
        return self._out / self._free.claim(name.with_name(stem + suffix))


def _cut(stem: str, ending: str) -> str:
    """The name of a file, cut where keys of a store are longer than disks take."""
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + ending


def predicted(
    predictor: Predictor, paths: Sequence[Path | Location], score: float, together: int = 0
) -> Iterator[tuple[Page, Instances | str]]:
    """Each image of some files and its result (or the sentence why not), a few batches' worth at a time.

    together   number of files that may share batches: those before and after do not change a bit of their results;
               0 lets all share them
    Warns at the end with a `Note` of what is odd about the images.
    """
    oddities = Oddities()
    batch, levels = predictor.recipe.evaluate.batch, levels_of(predictor.recipe.data)
    is_cut = predictor.recipe.data.tile > 0
    images = _ahead(_decoded(paths, levels, oddities, by_windows=is_cut), 1 if is_cut else 2 * batch)
    groups = {path: number // together for number, path in enumerate(paths)} if together else {}
    for chunk in _chunks(images, 1 if is_cut else 4 * batch, groups):
        found = iter(predictor.predict_levels([image for _, image in chunk if isinstance(image, np.ndarray)], score))
        for page, image in chunk:
            if isinstance(image, np.ndarray):
                yield page, next(found)
            else:
                yield page, image if isinstance(image, str) else _predict_file(predictor, image, score)
    for note in oddities.notes():
        warnings.warn(note, Note, stacklevel=2)


def _chunks(
    images: Iterator[tuple[Page, Decoded]], most: int, groups: Mapping[Path | Location, int]
) -> Iterator[list[tuple[Page, Decoded]]]:
    """Images in lists of at most so many, each of one group."""
    for _, group in groupby(images, lambda one: groups.get(one[0].path, 0)):
        while chunk := list(islice(group, most)):
            yield chunk


def _ahead(images: Iterator[tuple[Page, Decoded]], most: int) -> Iterator[tuple[Page, Decoded]]:
    """Images, of which the next are made in a thread, in the words of this one, while earlier ones are worked on."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        waiting = deque(pool.submit(copy_context().run, next, images, None) for _ in range(most))
        while (image := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(copy_context().run, next, images, None))
            yield image
    finally:
        pool.shutdown(cancel_futures=True)


def _predict_file(predictor: Predictor, path: Path, score: float) -> Instances | str:
    """What is found in an image that is read part by part, or the sentence why it cannot be read."""
    try:
        found: Instances = predictor.predict([path], score)[0]
    except (OSError, ValueError) as error:
        return str(error)
    return found


def _decoded(
    paths: Sequence[Path | Location], levels: Levels, oddities: Oddities, *, by_windows: bool
) -> Iterator[tuple[Page, Decoded]]:
    """Yield each image of each file, or the sentence why it cannot be read.

    by_windows   images that can be read part by part are not read here, and their paths take their place
    """
    for path, opened in _files(paths):
        if by_windows and isinstance(path, Path) and window_size(path) is not None:
            yield Page(path), path
            continue
        try:
            with opened() as file:
                yield from pages(file, path, oddities, levels=levels)
        except (OSError, ValueError) as error:
            yield Page(path), str(error)


def _files(paths: Sequence[Path | Location]) -> Iterator[tuple[Path | Location, Opened]]:
    """Yield files and what opens them; those of a store come from far away: several threads wait for them."""
    rest = iter(paths)
    with ThreadPoolExecutor(max_workers=REMOTE_READERS) as pool:

        def begun(path: Path | Location) -> tuple[Path | Location, Opened]:
            is_far = isinstance(path, Location)
            return path, pool.submit(open_file, path).result if is_far else partial(open_file, path)

        waiting = deque(map(begun, islice(rest, REMOTE_READERS)))
        while waiting:
            path, opened = waiting.popleft()
            waiting.extend(map(begun, islice(rest, 1)))
            yield path, opened
