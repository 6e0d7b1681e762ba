"""Images set apart for validation, and the file that says which ones they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from jaxtyping import Bool, Int64
from msgspec import Struct

from maskrcnn.data.dataset import Dataset, select
from maskrcnn.data.encodings import read_bytes
from maskrcnn.files import atomic_write
from maskrcnn.sentences import counted, some_of


class SplitFile(Struct):
    """Names of the images of each split, below the folder of the images."""

    train: list[str]
    val: list[str]
    share: float = 0.0
    seed: int = 0


def divide(
    data: Dataset, share: float, seed: int, groups: Int64[np.ndarray, " N"] | None = None
) -> Bool[np.ndarray, " N"]:
    """Choose which images are for validation.

    share    of the images
    groups   images of one number stay together, such as those that are nearly the same
    Groups are sorted by the rarest class that they show and shuffled by the seed within it; each goes to validation
    where that brings all images, and those of its classes, nearer to the share. The last group of a class stays in
    training.
    Raises ValueError where there are no two groups to divide.
    """
    groups = np.arange(len(data.image_ids)) if groups is None else groups
    numbers, group_of = np.unique(groups, return_inverse=True)
    if len(numbers) < 2 or share == 0:
        told = counted(len(data.image_ids), "images cannot be divided into training and validation")
        told += ", since they are nearly the same and stay together" if len(data.image_ids) > 1 and share else ""
        raise ValueError(
            f"{data.annotations}: {told}; set train.evaluate_every=0 to train on all of them without an evaluation"
        )
    pairs, rarest = _classes_of(data, group_of, len(numbers))
    order = np.lexsort((np.random.default_rng([seed, 0]).permutation(len(numbers)), rarest))
    chosen = _evenly([pairs[group] for group in order], np.bincount(group_of)[order].tolist(), share)
    if not chosen.any():
        chosen[-1] = True
    if chosen.all():
        chosen[-1] = False
    apart = np.zeros(len(numbers), bool)
    apart[order[chosen]] = True
    return apart[group_of]


def _evenly(classes: Sequence[Sequence[int]], sizes: Sequence[int], share: float) -> Bool[np.ndarray, " _"]:
    """Choose groups in turn so that their images, and those of each class, stay near to the share.

    classes   that each group shows
    sizes     images of each group
    """
    chosen, seen, taken = np.zeros(len(sizes), bool), 0, 0
    left = Counter(label for labels in classes for label in labels)
    seen_of: Counter[int] = Counter()
    taken_of: Counter[int] = Counter()
    for index, (labels, size) in enumerate(zip(classes, sizes, strict=True)):
        seen += size
        seen_of.update(labels)
        lacking = [share * seen_of[label] - taken_of[label] for label in labels] or [0.5]
        wanted = (share * seen - taken) / size + sum(lacking) / len(lacking)
        if wanted >= 1 and all(left[label] > 1 for label in labels):
            chosen[index] = True
            taken += size
            taken_of.update(labels)
            left.subtract(labels)
    return chosen


def _classes_of(
    data: Dataset, group_of: Int64[np.ndarray, " N"], num_groups: int
) -> tuple[list[list[int]], Int64[np.ndarray, " _"]]:
    """The labels that each group shows, and its rarest one by its rank from the rarest; the last without any."""
    owner = group_of[data.owners]
    num_classes = len(data.category_ids)
    owners, labels = np.divmod(np.unique(owner * (num_classes + 1) + data.labels), num_classes + 1)
    shown = np.bincount(labels, minlength=num_classes + 1)
    rank = np.empty(num_classes + 1, np.int64)
    rank[np.argsort(shown, kind="stable")] = np.arange(num_classes + 1)
    rarest = np.full(num_groups, num_classes + 1, np.int64)
    np.minimum.at(rarest, owners, rank[labels])
    starts = np.searchsorted(owners, np.arange(num_groups + 1)).tolist()
    return [labels[start:stop].tolist() for start, stop in pairwise(starts)], rarest


def write_split_file(path: Path, training: Dataset, validation: Dataset, share: float, seed: int) -> None:
    """Write which images are for training and which for validation, for a person to read and to edit."""
    content = SplitFile(list(training.file_names), list(validation.file_names), share, seed)
    with atomic_write(path) as draft:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(content)))


def read_split_file(path: Path) -> SplitFile:
    """Read what `write_split_file` wrote. Raises FileNotFoundError or ValueError with one sentence."""
    try:
        return msgspec.json.decode(read_bytes(path), type=SplitFile)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the split file {path} does not exist; `maskrcnn data split` writes one, or set data.split_file=''"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected a JSON object with the lists `train` and `val`: {error}") from None


def pick(data: Dataset, split: Literal["train", "val"], file: SplitFile, path: Path) -> Dataset:
    """The images of one split, in the data's order. Images that the file does not name are for training.

    Raises ValueError for an image in both lists, and where the data lack all images of the split.
    """
    both = set(file.train) & set(file.val)
    if both:
        raise ValueError(f"{path}: {some_of(sorted(both), 3)} stand in both lists; leave each in one")
    val = set(file.val)
    apart = np.array([name in val for name in data.file_names], bool)
    chosen = np.flatnonzero(apart == (split == "val"))
    if not len(chosen):
        raise ValueError(
            f"{path}: {data.annotations} has none of the {len(file.val if split == 'val' else file.train)} images of "
            f"`{split}`; was it written for other data?"
        )
    known = val.union(file.train)
    new = [name for name in data.file_names if name not in known] if split == "train" else []
    remarks = (
        (f"{path} does not name {counted(len(new), 'images')}, for training then: {some_of(new, 3)}",) if new else ()
    )
    return replace(select(data, chosen), remarks=(*data.remarks, *remarks))
