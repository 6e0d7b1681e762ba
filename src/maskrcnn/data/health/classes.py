"""Faults of categories: in one split, and between training and validation."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.classes import is_tidy, joining
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Kind, Severity
from maskrcnn.data.health.findings import Finding, of_names

FEW = 10
"""Examples of a class below which little can be learnt."""
UNITED = "categories of both splits are united by name"

BLANK = Kind("category-blank", "categories", Severity.WARNING, "have no name", "they are called `class` and their id")
SAME_NAME = Kind(
    "category-name-twice",
    "categories",
    Severity.WARNING,
    "bear the name of another and are a class of their own: weights cannot tell which is which",
    "they become one",
)
ALIKE = Kind(
    "category-names-alike",
    "categories",
    Severity.WARNING,
    "bear a name that differs from another's in case, blanks or Unicode form alone, and are not one",
)
UNTIDY = Kind(
    "category-name-untidy",
    "categories",
    Severity.NOTE,
    "bear a name with line breaks, blanks in a row or blanks at the ends",
    "they are written without",
)
UNUSED = Kind("category-unused", "categories", Severity.NOTE, "have no objects")
RARE = Kind("category-rare", "categories", Severity.NOTE, f"have fewer than {FEW} objects to learn from")
OTHER_IDS = Kind(
    "category-ids-differ", "categories", Severity.REFUSED, "have another id in validation than in training", UNITED
)
OTHER_NAMES = Kind("category-in-one-split", "categories", Severity.REFUSED, "are listed in one split alone", UNITED)
ONE_SIDED = Kind(
    "category-united",
    "categories",
    Severity.NOTE,
    "are listed in one split alone; both splits get all categories, known by name",
)
NEVER_LEARNT = Kind(
    "category-never-learnt", "categories", Severity.WARNING, "have objects in validation and none in training"
)
NEVER_SCORED = Kind(
    "category-never-scored", "categories", Severity.NOTE, "have objects in training and none in validation"
)


def class_faults(data: Dataset, *, is_learnt: bool) -> Iterator[Finding]:
    """Faults of the categories of one split.

    is_learnt   whether classes with few objects or none are reported
    """
    pairs = list(zip(data.category_ids, data.category_names, strict=True))
    times = Counter(data.category_names)
    yield from of_names(BLANK, [f"id {id}" for id, name in pairs if not name.strip()])
    yield from of_names(SAME_NAME, [f"{name} (id {id})" for id, name in pairs if name.strip() and times[name] > 1])
    yield from of_names(UNTIDY, untidy_names(data))
    yield from _alike_faults(_alike(data.category_names))
    counts = list(zip(data.category_names, num_objects(data).tolist(), strict=True))
    if is_learnt and any(count for _, count in counts):
        yield from of_names(UNUSED, [name for name, count in counts if not count])
        yield from of_names(RARE, [f"{name} ({count})" for name, count in counts if 0 < count < FEW])


def class_differences(training: Dataset, validation: Dataset, *, united: bool) -> Iterator[Finding]:
    """Faults of the validation split's categories beside those of training.

    united   whether both get the same categories, known by their names, before anything is learnt
    """
    ours, theirs = ids_by_name(training), ids_by_name(validation)
    both = [name for name in ours if name in theirs]
    moved = [
        f"{name} (id {_listed(ours[name])}, {_listed(theirs[name])})" for name in both if ours[name] != theirs[name]
    ]
    alone = [f"{name} (training)" for name in ours if name not in theirs]
    alone += [f"{name} (validation)" for name in theirs if name not in ours]
    yield from of_names(OTHER_IDS, [] if united else moved)
    yield from of_names(ONE_SIDED if united else OTHER_NAMES, alone)
    within = {*_alike(training.category_names), *_alike(validation.category_names)}
    across = _alike([*training.category_names, *validation.category_names])
    yield from _alike_faults([pair for pair in across if pair not in within])
    learnt, scored = _used(training), _used(validation)
    yield from of_names(NEVER_LEARNT, sorted(scored - learnt))
    yield from of_names(NEVER_SCORED, sorted(learnt - scored))


def _alike_faults(pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Say of pairs that are alike how the first one becomes one class."""
    advice = f"{joining(*pairs[0])} in data.classes, beside the classes to keep, joins the first two" if pairs else ""
    yield from of_names(ALIKE, [f"{one!r} and {other!r}" for one, other in pairs], advice)


def _alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names that are the same but for case, blanks and Unicode form, as pairs: the first one, and each other."""
    first: dict[str, str] = {}
    found: dict[tuple[str, str], None] = {}
    for name in dict.fromkeys(names):
        known = first.setdefault(unicodedata.normalize("NFC", "".join(name.split()).casefold()), name)
        if known != name and name.strip():
            found[known, name] = None
    return list(found)


def untidy_names(data: Dataset) -> list[str]:
    """Names with white space beside single blanks between words, each as Python writes it."""
    return [repr(name) for name in dict.fromkeys(data.category_names) if name.strip() and not is_tidy(name)]


def ids_by_name(data: Dataset) -> dict[str, tuple[int, ...]]:
    """The ids of the categories of each name, most often one."""
    found: dict[str, tuple[int, ...]] = {}
    for id, name in zip(data.category_ids, data.category_names, strict=True):
        found[name] = (*found.get(name, ()), id)
    return found


def num_objects(data: Dataset) -> Int64[np.ndarray, " K"]:
    """Objects of each category that are learnt, crowd regions left out."""
    labels = data.labels[data.learnt & ~data.crowd]
    return np.bincount(labels, minlength=len(data.category_ids) + 1)[1:].astype(np.int64)


def _used(data: Dataset) -> set[str]:
    return {data.category_names[row] for row in np.flatnonzero(num_objects(data)).tolist()}


def _listed(ids: tuple[int, ...]) -> str:
    return " and ".join(map(str, ids))
