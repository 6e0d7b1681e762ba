"""COCO scores of results, given all at once or while prediction goes on, and all that is known besides.

Scores are fractions; None where the annotations hold no object to score (of that size, or at all).
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

from jaxtyping import Float64
from msgspec import Struct, msgpack
from numpy import ndarray

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco as formats
from maskrcnn.evaluate.diagnosis import Diagnosis
from maskrcnn.evaluate.error_kinds import MATCH_IOU, MIN_SCORE
from maskrcnn.evaluate.hotcoco_engine import Curves, Found, IouType, Matcher, Truth
from maskrcnn.evaluate.results import Result, batches, carried, columns, convert, read

Scores = dict[str, float | None]

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TITLES = {"bbox": "box", "segm": "mask"}
DASH = "\N{EN DASH}"
"""Stands for a number where there was nothing to score."""


class Metrics(TypedDict, total=False):
    """Everything that is known about one evaluation, ready for JSON.

    Errors, confusion and images are those of the finest results: masks where they were scored, else boxes.
    """

    bbox: Scores
    segm: Scores
    per_class: list[dict[str, Any]]
    """{"id", "name", "objects", "bbox": {"AP", "AP50", "AP75", "AR100"}, "segm": {...}} in order of category id."""
    curves: dict[str, dict[str, list[float | None]]]
    """Per IoU type: "recall" and the mean precision over classes at IoU "0.50" and "0.75"."""
    errors: dict[str, float]
    """AP50 that would be gained if one kind of error were mended. Source: Bolya et al. 2020, TIDE."""
    confusion: dict[str, Any]
    """{"score", "iou", "classes", "counts": [[true, predicted, number], ...]}; index len(classes) is background."""
    images: list[dict[str, Any]]
    """{"id", "found", "wrong", "missed", "f1"} of each image that has objects or results."""
    speed: dict[str, float]
    """"predict" and "evaluate": images per second; "seconds" of the whole evaluation; "images"."""
    versions: dict[str, str]
    """Versions of the packages and of Python, and the device that computed the metrics."""


class State(Struct):
    """What one process knows of its images."""

    matched: dict[IouType, bytes]
    diagnosis: bytes


class Evaluation:
    """Takes the results of whole images as they come, and keeps little of them: what was matched, and what went wrong.

    Images may come in any order, each once; those that never come do not count.
    """

    def __init__(self, truth: Truth, iou_types: Sequence[IouType] = ("bbox", "segm")) -> None:
        self._truth, self._iou_types = truth, iou_types
        self._matchers = {kind: Matcher(truth, kind) for kind in iou_types}
        self._diagnosis = Diagnosis(len(truth.names), "segm" if "segm" in iou_types else "bbox")

    def add(self, image_ids: Sequence[int], results: Sequence[dict[str, Any]]) -> None:
        """All results of some images, image by image in the order of `image_ids`. Raises ValueError as `score`."""
        found = columns(self._truth, convert(results, "results"), range(len(results)), self._iou_types, "results")
        self.add_columns([self._truth.images[number] for number in image_ids], found)

    def add_columns(self, images: Sequence[int], found: Found) -> None:
        """The same of results that were checked; images by their numbers in `truth`."""
        annotations = [self._truth.annotations(image, "segm" in self._iou_types) for image in images]
        for matcher in self._matchers.values():
            matcher.add(images, list(chain.from_iterable(annotations)), found)
        self._diagnosis.add(images, found, annotations)

    def to_bytes(self) -> bytes:
        """What is known, for `merge` in another process."""
        matched = {kind: matcher.to_bytes() for kind, matcher in self._matchers.items()}
        return msgpack.encode(State(matched, self._diagnosis.to_bytes()))

    def merge(self, others: Iterable[bytes]) -> None:
        """Take over what other processes know of other images."""
        states = [msgpack.decode(other, type=State) for other in others]
        for kind, matcher in self._matchers.items():
            matcher.merge(state.matched[kind] for state in states)
        self._diagnosis.merge(state.diagnosis for state in states)

    def metrics(self) -> Metrics:
        """Compute the metrics of all images together; nothing can be added afterwards."""
        truth = self._truth
        curves = {kind: matcher.curves() for kind, matcher in self._matchers.items()}
        metrics = Metrics()
        if "bbox" in curves:
            metrics["bbox"] = _summary(curves["bbox"])
        if "segm" in curves:
            metrics["segm"] = _summary(curves["segm"])
        metrics["per_class"] = _per_class(truth, curves)
        metrics["curves"] = {kind: _rounded(one.mean) for kind, one in curves.items()}
        metrics["errors"] = self._diagnosis.errors()
        metrics["confusion"] = {
            "score": MIN_SCORE,
            "iou": MATCH_IOU,
            "classes": truth.names,
            "counts": self._diagnosis.confusion(),
        }
        metrics["images"] = [row | {"id": truth.image_ids[row["id"]]} for row in self._diagnosis.images()]
        return metrics


def score(
    ground_truth: Path | dict[str, Any] | Dataset,
    results: Sequence[dict[str, Any]],
    iou_types: Sequence[IouType] = ("bbox", "segm"),
) -> Metrics:
    """Compare results with annotations as COCO does (ten IoUs, at most 100 results per image and class).

    ground_truth    an annotation file, its content, or a data set; all its images count, also those without results
    results         objects found: {"image_id", "category_id", "score", "bbox": [x, y, width, height],
                    "segmentation"}, in pixels of the original image
    segmentation    compressed RLE (str or bytes), uncompressed RLE, or polygons
    Raises ValueError, saying which result, for an unknown image or category, or a field that is not readable.
    """
    entries = convert(results, "results")
    if not isinstance(ground_truth, Dataset):
        ground_truth = formats.parse(ground_truth) if isinstance(ground_truth, dict) else formats.read(ground_truth)
    return _score(Truth(ground_truth), entries, iou_types, "results")


def score_files(annotations: Path, predictions: Path) -> Metrics:
    """Score a result file: boxes where its entries carry `bbox`, masks where they carry `segmentation`."""
    entries = read(predictions)
    dataset = formats.read(annotations)
    for note in dataset.notes:
        warnings.warn(f"{annotations}: {note}", stacklevel=2)
    return _score(Truth(dataset), entries, carried(entries, str(predictions)), str(predictions))


def headline(metrics: Mapping[str, Any]) -> dict[str, Scores]:
    """The twelve numbers of each IoU type, without the rest."""
    return {kind: metrics[kind] for kind in TITLES if kind in metrics}


def percent(value: float | None) -> str:
    """Format a fraction in percent with one decimal, as AP is quoted.

    >>> percent(0.3781)
    '37.8'
    """
    return DASH if value is None else f"{100 * value:.1f}"


def table(metrics: Metrics) -> str:
    """The twelve numbers in percent, one row for boxes and one for masks."""
    rows = [["%", *NAMES]]
    rows += [[TITLES[kind], *(percent(scores[name]) for name in NAMES)] for kind, scores in headline(metrics).items()]
    return "\n".join(row[0].ljust(6) + "".join(cell.rjust(7) for cell in row[1:]) for row in rows)


def _score(truth: Truth, entries: list[Result], iou_types: Sequence[IouType], source: str) -> Metrics:
    evaluation = Evaluation(truth, iou_types)
    for images, found in batches(truth, entries, iou_types, source):
        evaluation.add_columns(images, found)
    return evaluation.metrics()


def _summary(curves: Curves) -> Scores:
    return {name: _known(value) for name, value in zip(NAMES, curves.summary, strict=True)}


def _per_class(truth: Truth, curves: Mapping[IouType, Curves]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for column, (number, name, num_objects) in enumerate(
        zip(truth.category_ids, truth.names, truth.num_objects(), strict=True)
    ):
        rows.append({"id": number, "name": name, "objects": num_objects})
        for kind, (_, precision, recall, _) in curves.items():
            rows[-1][kind] = {
                "AP": _mean(precision[:, :, column]),
                "AP50": _mean(precision[0, :, column]),
                "AP75": _mean(precision[5, :, column]),
                "AR100": _mean(recall[:, column]),
            }
    return rows


def _rounded(curves: Mapping[str, list[float]]) -> dict[str, list[float | None]]:
    return {name: [_known(round(value, 4)) for value in values] for name, values in curves.items()}


def _known(value: float) -> float | None:
    """COCO writes -1 where there is nothing to score."""
    return None if value < 0 else float(value)


def _mean(values: Float64[ndarray, "..."]) -> float | None:
    return _known(float(values.mean())) if (values > -1).all() else None
