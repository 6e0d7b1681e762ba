"""Findings: what is wrong, and which rows of a data set's columns have it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import EXAMPLES, MOST_OF_NAME, Fault, Kind
from maskrcnn.sentences import shortened

Progress = Callable[[int, int], None]
"""Called with the number of images that were looked at, and of all."""


def _none() -> Int64[np.ndarray, " 0"]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Finding:
    """One kind of fault of one split."""

    kind: Kind
    count: int
    examples: Sequence[str]
    """The first that have it."""
    images: Int64[np.ndarray, " n"] = field(default_factory=_none)
    """Index of every image that has it, or of the image of every object; empty where it is about neither."""
    objects: Int64[np.ndarray, " m"] = field(default_factory=_none)
    """Index of every object that has it; as many as `images`, or none."""
    sentence: str = ""
    """What is wrong with the first, in full; empty where the claim says all."""

    def __str__(self) -> str:
        return str(Fault(self.kind, self.count, list(self.examples)))


def of_objects(kind: Kind, data: Dataset, objects: Int64[np.ndarray, " n"], sentence: str = "") -> Iterator[Finding]:
    """A finding about some objects, by index; nothing where there are none."""
    if len(objects):
        images = data.owners[objects]
        names = [
            f"annotation {data.annotation_ids[row]} of image {image_id(data, image)}"
            for row, image in zip(objects[:EXAMPLES].tolist(), images[:EXAMPLES].tolist(), strict=True)
        ]
        yield Finding(kind, len(objects), names, images, objects, sentence)


def of_images(
    kind: Kind, data: Dataset, images: Int64[np.ndarray, " n"], sentence: str = "", told: Sequence[str] = ()
) -> Iterator[Finding]:
    """A finding about some images, by index; nothing where there are none.

    told   what to add to the name of each of the first ones
    """
    if len(images):
        names = [image_name(data, image) for image in images[:EXAMPLES].tolist()]
        names = [name + more for name, more in zip(names, [*told, *[""] * EXAMPLES], strict=False)]
        yield Finding(kind, len(images), _shown(names), images, sentence=sentence)


def of_names(kind: Kind, names: Sequence[str], sentence: str = "") -> Iterator[Finding]:
    """A finding about categories, files or splits, by name; nothing where there are none."""
    if names:
        yield Finding(kind, len(names), _shown(names), sentence=sentence)


def _shown(names: Sequence[str]) -> list[str]:
    """The first names, each in one line that a person can read."""
    return [shortened(name, MOST_OF_NAME) for name in names[:EXAMPLES]]


def image_id(data: Dataset, image: int) -> str:
    """The id of an image as its file states it."""
    return str(data.image_ids[image]) if data.stated_ids is None else data.stated_ids[image]


def image_name(data: Dataset, image: int) -> str:
    """An image by id and file."""
    return f"{image_id(data, image)} ({data.file_names[image]})"
