"""What data set lies in a folder, told by its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.formats import yolo
from maskrcnn.data.formats.archive import is_archive, unpacked
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.formats.source import Folder, Part, Source
from maskrcnn.data.not_read import not_read
from maskrcnn.data.sources import SUFFIXES
from maskrcnn.files import SPECIAL, by_archive, is_special
from maskrcnn.sentences import counted, some_of


class Found(NamedTuple):
    """The data set of a folder."""

    root: Path
    sources: tuple[Source, ...]
    """Its splits, all of one format."""
    passed_over: tuple[str, ...]
    """What else lies there, a sentence each."""

    @property
    def format(self) -> str:
        return self.sources[0].format

    def of(self, *parts: Part) -> list[Source]:
        """Sources of some splits."""
        return [source for source in self.sources if source.part in parts]

    def __str__(self) -> str:
        """What it was taken for and why, in one sentence."""
        splits = some_of([source.part or "one split" for source in self.sources], 4)
        why = some_of(dict.fromkeys(source.why for source in self.sources), 2, separator="; ")
        told = f"{self.root}: {FORMATS[self.format].title} ({splits}), because {why}"
        return by_archive("; ".join([told, *self.passed_over]))


def recognise(root: Path, wanted: str = "auto") -> Found:
    """Find the data set of a folder, or of an archive, which is unpacked into the cache.

    wanted   a format's name: others are not looked for
    Of several formats in one folder the one that lies in fewer folders is taken, of equals the first of `FORMATS`; what
    else is there is told. Raises FileNotFoundError where the folder is missing or nothing is recognised.
    """
    root = unpacked(root) if is_archive(root) else root
    if is_special(root):
        raise FileNotFoundError(f"{root} cannot be read ({SPECIAL}); give the folder that holds annotations and images")
    if root.is_file():
        raise FileNotFoundError(f"{root} is a file; give the folder that holds annotations and images")
    if not root.is_dir():
        raise FileNotFoundError(f"the data set's folder {root} does not exist; set data.dataset_dir to it")
    folder = Folder(root)
    candidates = {name: sources for name, sources in _look(folder, wanted) if sources}
    if not candidates:
        raise FileNotFoundError(_nothing(folder, wanted))
    chosen = min(candidates, key=lambda name: _depth(candidates[name]))
    sources = candidates.pop(chosen)
    outermost = _depth(sources)
    own = tuple(source for source in sources if _is_of(source, outermost, sources))
    passed_over = [
        f"{FORMATS[name].title} is there too and is not read (data.format={name} reads it)" for name in candidates
    ]
    inner = [source.labels for source in sources if source not in own]
    if inner:
        passed_over.append(f"a data set inside this one is not read: {some_of(inner, 2)}")
    passed_over += not_read(folder, [*sources, *(source for found in candidates.values() for source in found)])
    if chosen == "yolo" and (unnamed := yolo.unnamed(folder, own)):
        names = some_of([path.relative_to(root).as_posix() for path in unnamed], 2)
        passed_over.append(f"not read, since {own[0].names} names others: {names}")
    return Found(root, own, tuple(passed_over))


def _look(folder: Folder, wanted: str) -> Iterator[tuple[str, list[Source]]]:
    for name, form in FORMATS.items():
        if wanted in ("auto", name):
            yield name, form.find(folder)


def _depth(sources: list[Source]) -> int:
    return min(map(_depth_of, sources))


def _depth_of(source: Source) -> int:
    """Number of folders around an annotation file, or down to a folder of label files."""
    return len(source.labels.parts) - source.labels.is_file()


def _is_of(source: Source, outermost: int, sources: list[Source]) -> bool:
    """Whether a source belongs to the outermost data set: a split that this one lacks, or at its depth."""
    outer = [one for one in sources if _depth_of(one) == outermost]
    taken = {one.part for one in outer}
    return source in outer or (source.part not in taken and "" not in taken)


def _nothing(folder: Folder, wanted: str) -> str:
    images = sum(1 for _ in folder.having(*SUFFIXES))
    files = sum(map(len, folder.files.values()))
    form = "any format" if wanted == "auto" else FORMATS[wanted].title
    known = ", ".join(one.title for one in FORMATS.values())
    others = "".join(f"; {one}" for one in not_read(folder, []))
    return (
        f"{by_archive(str(folder.root))} holds {counted(files, 'files')}, {images} of them images, but no annotations "
        f"of {form} (known: {known}){others}; give the folder that holds images and annotations, or write the names of "
        "both into data.train_img_dir and data.train_anno_path"
    )
