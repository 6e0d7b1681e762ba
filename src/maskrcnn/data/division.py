"""Images set apart for validation, and the file that says which ones they are."""

from dataclasses import replace
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
    Images are sorted by the rarest class that they show, shuffled by the seed within it, and every 1 / share-th goes to
    validation, so that each class is divided alike. A class that a single group shows stays in training.
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
    rarest = _rarest_class(data, group_of, len(numbers))
    order = np.lexsort((np.random.default_rng([seed, 0]).permutation(len(numbers)), rarest))
    alone = np.bincount(rarest)[rarest[order]] == 1
    may_go = ~alone if len(numbers) > alone.sum() + 1 else np.ones(len(numbers), bool)
    chosen = _evenly(np.bincount(group_of)[order].tolist(), may_go.tolist(), share)
    if not chosen.any():
        chosen[int(np.argmax(may_go))] = True
    if chosen.all():
        chosen[-1] = False
    apart = np.zeros(len(numbers), bool)
    apart[order[chosen]] = True
    return apart[group_of]


def _evenly(sizes: list[int], may_go: list[bool], share: float) -> Bool[np.ndarray, " _"]:
    """Choose groups so that their images are, at every point of the row, as near to the share as whole groups allow."""
    chosen, seen, taken = np.zeros(len(sizes), bool), 0, 0
    for index, size in enumerate(sizes):
        seen += size
        if may_go[index] and share * seen - taken >= size / 2:
            chosen[index] = True
            taken += size
    return chosen


def _rarest_class(data: Dataset, group_of: Int64[np.ndarray, " N"], num_groups: int) -> Int64[np.ndarray, " _"]:
    """The class of a group's objects that the fewest groups show, by its rank from the rarest; the last without any."""
    owner = group_of[data.owners]
    num_classes = len(data.category_ids)
    pairs = np.unique(owner * (num_classes + 1) + data.labels)
    owners, labels = np.divmod(pairs, num_classes + 1)
    shown = np.bincount(labels, minlength=num_classes + 1)
    rank = np.empty(num_classes + 1, np.int64)
    rank[np.argsort(shown, kind="stable")] = np.arange(num_classes + 1)
    rarest = np.full(num_groups, num_classes + 1, np.int64)
    np.minimum.at(rarest, owners, rank[labels])
    return rarest


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
