"""The examination of a data set: everything that is wrong with its splits, each kind of fault once."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import EXAMPLES, Faults, Kind, Severity
from maskrcnn.data.health.boxes import MISFITS
from maskrcnn.data.health.classes import class_differences, class_faults
from maskrcnn.data.health.contents import Contents, content_faults, decode_all, deep_images, near_groups
from maskrcnn.data.health.copies import copy_faults, near_faults
from maskrcnn.data.health.findings import Finding, of_names
from maskrcnn.data.health.images import image_faults
from maskrcnn.data.health.objects import ALL_CROWD, object_faults
from maskrcnn.data.health.survey import Survey, survey
from maskrcnn.data.sources import SUFFIXES
from maskrcnn.sentences import counted

Progress = Callable[[str, int, int], None]
"""Called with what is done, the number of images that are, and of all."""

UNREAD = Kind("split-unreadable", "splits", Severity.REFUSED, "cannot be read")
NOTHING_READ = Kind("data-set-unreadable", "data sets", Severity.REFUSED, "cannot be read")
WHOLE = "all"
"""Where faults of a data set stand that has no splits to tell apart."""
NO_VALIDATION = Kind(
    "validation-split-missing",
    "splits",
    Severity.NOTE,
    "are not there: data.val_share sets images apart for validation, train.evaluate_every=0 trains on all images",
)
NO_TRAINING = Kind(
    "training-split-missing", "splits", Severity.WARNING, "are not there: models can be evaluated, but not trained"
)
NOTHING = Kind("nothing-to-learn", "splits", Severity.REFUSED, "have no object that can be learnt or scored")
ONE_IMAGE = Kind("split-of-one-image", "splits", Severity.WARNING, "have a single image")
UNNAMED = Kind("file-not-annotated", "files", Severity.NOTE, "lie among the images and are named by no annotation")
REMOTE = Kind("images-in-store", "images", Severity.NOTE, "lie in a store, where no file is looked at")


@dataclass(frozen=True, eq=False)
class Health:
    """What is known of a data set."""

    datasets: dict[str, Dataset]
    """Splits that could be read."""
    findings: dict[str, list[Finding]]
    """What is wrong, by split, but for what the readers met."""
    read: dict[str, list[Finding]] = field(default_factory=dict)
    """What the readers met, by split: it was read or left out."""
    surveys: dict[str, Survey] = field(default_factory=dict)
    """Headers of the images that lie on disk, by split."""
    is_deep: bool = False
    """Whether the pixels of all images were looked at."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A kind of fault in all splits."""

    kind: Kind
    by_split: dict[str, Finding]

    def __str__(self) -> str:
        return counted(self.count, f"{self.kind.noun} {self.kind.claim}")

    @property
    def count(self) -> int:
        return sum(finding.count for finding in self.by_split.values())

    @property
    def examples(self) -> list[str]:
        """The first that have it; after those of one split come those of the next."""
        return [name for finding in self.by_split.values() for name in finding.examples][:EXAMPLES]

    @property
    def sentence(self) -> str:
        """What is wrong with the first one, in full, where the claim does not say all."""
        return next((finding.sentence for finding in self.by_split.values() if finding.sentence), "")


def examine(
    datasets: Mapping[str, Dataset],
    reported: Mapping[str, Faults],
    problems: Mapping[str, str],
    *,
    deep: bool = False,
    united: bool = False,
    max_rowsize: int = 64,
    progress: Progress | None = None,
) -> Health:
    """Look for all faults.

    datasets   splits that could be read, `train` first
    reported   what their readers met
    problems   why other splits could not be read; the empty string where there is none
    deep       whether all pixels are decoded, or headers alone
    united     whether the reader unites the categories of both splits by name
    """
    health = Health(dict(datasets), {split: [] for split in (WHOLE, "train", "val", *datasets)}, is_deep=deep)

    def add(found: Iterable[tuple[str, Finding]]) -> None:
        for split, finding in found:
            health.findings[split].append(finding)

    add(_absent(datasets, problems))
    for split, data in datasets.items():
        health.read[split] = list(_of_reader(reported[split]))
        add((split, one) for one in _of_columns(split, data))
        if isinstance(data.images, Path):
            health.surveys[split] = survey(data, _named(progress, f"{split}: reading headers"))
            add((split, one) for one in image_faults(data, health.surveys[split], max_rowsize=max_rowsize))
        else:
            add([(split, Finding(REMOTE, len(data.image_ids), []))])
    add(_between(datasets, united=united))
    local = {split: data for split, data in datasets.items() if split in health.surveys}
    add(_unnamed(local))
    add(copy_faults(local, health.surveys))
    add(_of_pixels(local, health.surveys, deep=deep, progress=progress))
    return health


def _absent(datasets: Mapping[str, Dataset], problems: Mapping[str, str]) -> Iterator[tuple[str, Finding]]:
    """Splits that are not there or cannot be read; where all have the same reason, the data set as one."""
    same = set(problems.values())
    if not datasets and len(problems) > 1 and len(same) == 1:
        yield from ((WHOLE, one) for one in of_names(NOTHING_READ, [WHOLE], *same))
        return
    for split, problem in problems.items():
        absent = NO_TRAINING if split == "train" else NO_VALIDATION
        yield from ((split, one) for one in of_names(UNREAD if problem else absent, [split], problem))


def entries(health: Health) -> list[Entry]:
    """All kinds of fault, the worst first, each once."""
    found: dict[Kind, dict[str, Finding]] = {}
    for split in health.findings:
        for finding in (*health.read.get(split, []), *health.findings[split]):
            known = found.setdefault(finding.kind, {})
            known[split] = _united(known[split], finding) if split in known else finding
    order = list(reversed(Severity))
    return [Entry(kind, found[kind]) for kind in sorted(found, key=lambda kind: order.index(kind.severity))]


def _united(one: Finding, other: Finding) -> Finding:
    """Two findings of one kind and split."""
    return Finding(
        one.kind,
        one.count + other.count,
        [*one.examples, *other.examples][:EXAMPLES],
        np.concatenate([one.images, other.images]),
        np.concatenate([one.objects, other.objects]),
        one.sentence or other.sentence,
    )


def _of_reader(faults: Faults) -> Iterator[Finding]:
    """What a reader met, but for what the columns tell as well."""
    for fault in faults:
        if fault.kind not in MISFITS:
            yield Finding(fault.kind, fault.count, fault.examples, sentence=fault.sentence)


def _of_columns(split: str, data: Dataset) -> Iterator[Finding]:
    found = list(object_faults(data))
    yield from found
    yield from class_faults(data, is_learnt=split == "train")
    is_crowd = any(one.kind is ALL_CROWD for one in found)
    if not is_crowd and not (data.learnt & ~data.crowd).any():
        yield from of_names(NOTHING, [split])
    if len(data.image_ids) == 1:
        yield from of_names(ONE_IMAGE, [split])


def _between(datasets: Mapping[str, Dataset], *, united: bool) -> Iterator[tuple[str, Finding]]:
    if {"train", "val"} <= datasets.keys():
        for finding in class_differences(datasets["train"], datasets["val"], united=united):
            yield "val", finding


def _unnamed(datasets: Mapping[str, Dataset]) -> Iterator[tuple[str, Finding]]:
    """Images in folders of which annotations name others, by their names from the folder of the split's images."""
    named: set[str] = set()
    folders: dict[str, str] = {}
    for split, data in datasets.items():
        root = os.path.abspath(str(data.images))
        paths, known = (
            [os.path.normpath(os.path.join(root, name)) for name in names]
            for names in (data.file_names, data.known_files)
        )
        named.update(paths, known)  # of masks beside their images the reader tells what is not used
        folders.update({folder: split for folder in {os.path.dirname(path) for path in paths} if folder not in folders})
    for split, data in datasets.items():
        rest = [
            os.path.relpath(path, str(data.images))
            for folder in sorted(folders)
            if folders[folder] == split
            for path in _images_in(folder)
            if path not in named
        ]
        yield from (
            (split, one) for one in of_names(UNNAMED, [os.fsencode(path).decode(errors="replace") for path in rest])
        )


def _images_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as found:
            names = sorted(one.path for one in found if one.name.lower().endswith(SUFFIXES) and one.is_file())
    except OSError:
        return []
    return [name for name in names if not os.path.basename(name).startswith(".")]


def _of_pixels(
    datasets: Mapping[str, Dataset], surveys: Mapping[str, Survey], *, deep: bool, progress: Progress | None
) -> Iterator[tuple[str, Finding]]:
    contents: dict[str, Contents] = {}
    for split, data in datasets.items():
        rows = np.flatnonzero(surveys[split].usable) if deep else deep_images(surveys[split])
        contents[split] = decode_all(surveys[split], rows, _named(progress, f"{split}: decoding"))
        yield from ((split, one) for one in content_faults(data, surveys[split], contents[split]))
    if deep and contents:
        yield from near_faults(datasets, near_groups(contents), surveys)


def _named(progress: Progress | None, doing: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(doing, done, total)
