"""Names of images that lead out of their data set: who annotated it may not say what is read of a machine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_roots: ContextVar[tuple[Path, ...] | None] = ContextVar("roots", default=())
"""Folders whose images may be read besides those of the image folder; None: all."""


@contextmanager
def reading_within(roots: Sequence[Path] | None) -> Iterator[None]:
    """While annotations are read, let them name images in these folders too; with None, anywhere (`data.outside`)."""
    token = _roots.set(None if roots is None else tuple(roots))
    try:
        yield
    finally:
        _roots.reset(token)


def leads_out(name: str, images: Path, *around: Path) -> bool:
    """Whether a name means a file that lies neither in the folder of the images nor in the data set.

    around   other folders of the data set, such as that of the annotations
    A symbolic link inside of them may lead anywhere: who laid it there may also say so.
    """
    roots = _roots.get()
    if roots is None or not (os.path.isabs(name) or ".." in name.split("/")):
        return False
    real = os.path.realpath(os.path.dirname(os.path.join(images, name)))
    return not any(_is_in(real, os.path.realpath(root)) for root in (images, *around, *roots))


def _is_in(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
