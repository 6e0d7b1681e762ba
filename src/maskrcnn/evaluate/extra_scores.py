"""Scores that stand beside COCO's twelve, each under names of its own: of boundaries, of more results, and LVIS's."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from msgspec import Struct
from numpy import ndarray

from maskrcnn.evaluate.boundary_ap import BOUNDARY_NAMES, BoundaryMatcher
from maskrcnn.evaluate.hotcoco_engine import MOST, Found, IouType, Matcher, Truth

Section = Literal["boundary", "max_dets", "lvis"]
"""An entry of the metrics that holds such scores."""
SECTIONS: dict[Section, str] = {
    "boundary": "Boundary AP: an overlap counts as the lower of that of two masks and that of their boundaries",
    "max_dets": "The same with as many results of a class in an image as the number after @ says",
    "lvis": "LVIS's scores, with 300 results of an image; r, c, f: rare, common and frequent classes",
}
LVIS_NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
    *("AR@300", "ARs@300", "ARm@300", "ARl@300"),
)
WITH_LIMIT = (0, 1, 2, 3, 4, 5, 8, 9, 10, 11)
"""Indices of COCO's twelve scores that depend on how many results count; AR1 and AR10 do not."""


class ExtraScores:
    """Matchers of the sections that apply: `boundary` where it is wanted and masks are scored, `max_dets` where another
    number than COCO's is asked for, `lvis` where the truth is federated."""

    def __init__(self, truth: Truth, iou_types: Sequence[IouType], max_dets: int, *, boundary: bool) -> None:
        self._max_dets = max_dets
        self._matchers: dict[Section, dict[IouType, Matcher | BoundaryMatcher]] = {}
        if boundary and "segm" in iou_types:
            self._matchers["boundary"] = {"segm": BoundaryMatcher(truth)}
        if max_dets != MOST:
            self._matchers["max_dets"] = {kind: Matcher(truth, kind, max_dets=max_dets) for kind in iou_types}
        if truth.federated is not None:
            self._matchers["lvis"] = {kind: Matcher(truth, kind, federated=truth.federated) for kind in iou_types}

    def add(self, images: Sequence[int], annotations: list[dict[str, Any]], found: Found) -> None:
        """All objects and results of some images."""
        for matchers in self._matchers.values():
            for matcher in matchers.values():
                matcher.add(images, annotations, found)

    def to_bytes(self) -> dict[Section, dict[IouType, bytes]]:
        """What was matched, for `merge` in another process."""
        return {
            section: {kind: matcher.to_bytes() for kind, matcher in matchers.items()}
            for section, matchers in self._matchers.items()
        }

    def merge(self, others: Sequence[Mapping[Section, Mapping[IouType, bytes]]]) -> None:
        """Take over what others matched."""
        for section, matchers in self._matchers.items():
            for kind, matcher in matchers.items():
                matcher.merge(other[section][kind] for other in others)

    def scores(self) -> dict[Section, dict[IouType, dict[str, float]]]:
        """Compute the scores of each section by name; -1 where there is nothing to score. Nothing can be added later.

        With 300 results those of `max_dets` are AP@300, AP50@300 ... ARl@300.
        """
        names: dict[Section, Sequence[str]] = {
            "boundary": BOUNDARY_NAMES,
            "max_dets": names_with(self._max_dets),
            "lvis": LVIS_NAMES,
        }
        found: dict[Section, dict[IouType, dict[str, float]]] = {}
        for section, matchers in self._matchers.items():
            indices = WITH_LIMIT if section == "max_dets" else range(len(names[section]))
            found[section] = {}
            for kind, matcher in matchers.items():
                summary = matcher.summary()
                found[section][kind] = {
                    name: summary[index] for name, index in zip(names[section], indices, strict=True)
                }
        return found


def names_with(max_dets: int) -> list[str]:
    """The names of COCO's scores with another number of results.

    >>> names_with(300)[:2]
    ['AP@300', 'AP50@300']
    """
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARm", "ARl")
    return [f"{name}@{max_dets}" for name in names]


class Uncounted(Struct):
    """How many results nobody looked at, since more of their class in their image have higher scores."""

    counted: int
    """Results of one class in an image that count."""
    results: int = 0
    among: int = 0
    """All results of these classes in these images."""
    images: int = 0
    most: int = 0
    """The most results of one class in an image: that many would have to count."""

    def add(self, found: Found, num_categories: int) -> None:
        """Count all results of some images."""
        groups, sizes = np.unique(found.images * num_categories + found.categories, return_counts=True)
        is_over = sizes > self.counted
        over: Int64[ndarray, " _"] = sizes[is_over]
        self.results += int((over - self.counted).sum())
        self.among += int(over.sum())
        self.images += len(np.unique(groups[is_over] // num_categories))
        self.most = max(self.most, int(over.max(initial=0)))

    def merge(self, others: Iterable["Uncounted"]) -> None:
        """Take over what others counted of other images."""
        for other in others:
            self.results += other.results
            self.among += other.among
            self.images += other.images
            self.most = max(self.most, other.most)
