"""COCO scores of results, given all at once or while prediction goes on, and all that is known besides.

Scores are fractions; None where the annotations hold no object to score (of that size, or at all).
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

from jaxtyping import Float64
from msgspec import Struct, msgpack, structs
from numpy import ndarray

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco as formats
from maskrcnn.evaluate.diagnosis import Diagnosis
from maskrcnn.evaluate.error_kinds import MATCH_IOU, MIN_SCORE
from maskrcnn.evaluate.extra_scores import SECTIONS, ExtraScores, Section, Uncounted
from maskrcnn.evaluate.hotcoco_engine import MOST, Curves, Found, IouType, Matcher, Truth
from maskrcnn.evaluate.lvis import federated_in, federated_of
from maskrcnn.evaluate.named_results import by_name
from maskrcnn.evaluate.results import Result, batches, carried, columns, convert, read

Scores = dict[str, float | None]

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TITLES = {"bbox": "box", "segm": "mask"}
DASH = "\N{EN DASH}"
"""Stands for a number where there was nothing to score."""


class Metrics(TypedDict, total=False):
    """Everything that is known about one evaluation, ready for JSON.

    Errors, confusion and images are those of the finest results: masks where they were scored, else boxes. They count
    100 results of a class in an image as COCO's scores do, or more where more are asked for.
    """

    bbox: Scores
    segm: Scores
    boundary: dict[str, Scores]
    """Boundary AP under "segm", where masks were scored and it was wanted; see `maskrcnn.evaluate.boundary_ap`."""
    max_dets: dict[str, Scores]
    """Scores per IoU type that count other than 100 results of a class in an image: "AP@300" and so on."""
    lvis: dict[str, Scores]
    """LVIS's scores per IoU type, where the annotations are LVIS's: also "APr", "APc" and "APf"."""
    uncounted: dict[str, int]
    """{"results", "among", "images", "counted", "most"}, see `Uncounted`; absent where every result was looked at."""
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
    extra: dict[Section, dict[IouType, bytes]]
    diagnosis: bytes
    uncounted: Uncounted


class Evaluation:
    """Takes the results of whole images as they come, and keeps little of them: what was matched, and what went wrong.

    Images may come in any order, each once; those that never come do not count.
    max_dets   results of a class in an image that count in the scores `max_dets`; COCO's own count 100
    boundary   whether masks are scored by their boundaries, too
    """

    def __init__(
        self,
        truth: Truth,
        iou_types: Sequence[IouType] = ("bbox", "segm"),
        *,
        max_dets: int = MOST,
        boundary: bool = False,
    ) -> None:
        self._truth, self._iou_types = truth, iou_types
        self._matchers = {kind: Matcher(truth, kind) for kind in iou_types}
        self._extra = ExtraScores(truth, iou_types, max_dets, boundary=boundary)
        most = max(max_dets, MOST)
        self._diagnosis = Diagnosis(len(truth.names), "segm" if "segm" in iou_types else "bbox", most)
        self._uncounted = Uncounted(most)

    def add(self, image_ids: Sequence[int | str], results: Sequence[dict[str, Any]]) -> None:
        """All results of some images, image by image in the order of `image_ids`. Raises ValueError as `score`."""
        found = columns(self._truth, convert(results, "results"), range(len(results)), self._iou_types, "results")
        self.add_columns([self._truth.images[number] for number in image_ids], found)

    def add_columns(self, images: Sequence[int], found: Found) -> None:
        """The same of results that were checked; images by their numbers in `truth`."""
        annotations = [self._truth.annotations(image, "segm" in self._iou_types) for image in images]
        objects = list(chain.from_iterable(annotations))
        for matcher in self._matchers.values():
            matcher.add(images, objects, found)
        self._extra.add(images, objects, found)
        self._diagnosis.add(images, found, annotations)
        self._uncounted.add(found, len(self._truth.names))

    def to_bytes(self) -> bytes:
        """What is known, for `merge` in another process."""
        matched = {kind: matcher.to_bytes() for kind, matcher in self._matchers.items()}
        return msgpack.encode(State(matched, self._extra.to_bytes(), self._diagnosis.to_bytes(), self._uncounted))

    def merge(self, others: Iterable[bytes]) -> None:
        """Take over what other processes know of other images."""
        states = [msgpack.decode(other, type=State) for other in others]
        for kind, matcher in self._matchers.items():
            matcher.merge(state.matched[kind] for state in states)
        self._extra.merge([state.extra for state in states])
        self._diagnosis.merge(state.diagnosis for state in states)
        self._uncounted.merge(state.uncounted for state in states)

    def metrics(self) -> Metrics:
        """Compute the metrics of all images together; nothing can be added afterwards."""
        truth = self._truth
        curves = {kind: matcher.curves() for kind, matcher in self._matchers.items()}
        metrics = Metrics()
        if "bbox" in curves:
            metrics["bbox"] = _summary(curves["bbox"])
        if "segm" in curves:
            metrics["segm"] = _summary(curves["segm"])
        for section, scores in self._extra.scores().items():
            metrics[section] = {kind: _named(values) for kind, values in scores.items()}
        if self._uncounted.results:
            metrics["uncounted"] = structs.asdict(self._uncounted)
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
    *,
    max_dets: int = MOST,
    boundary: bool = False,
) -> Metrics:
    """Compare results with annotations as COCO does (ten IoUs, at most 100 results per image and class).

    Where annotations are LVIS's, its scores are computed too.

    ground_truth    an annotation file, its content, or a data set; all its images count, also those without results
    results         objects found: {"image_id", "category_id", "score", "bbox": [x, y, width, height],
                    "segmentation"}, in pixels of the original image
    segmentation    compressed RLE (str or bytes), uncompressed RLE, or polygons
    max_dets        another number of results, for the scores `max_dets`
    boundary        whether masks are scored by their boundaries, too
    An entry may also have "file_name", by which its image is found where "image_id" does not fit, see `by_name`.
    Raises ValueError, saying which result, for an unknown image or category, or a field that is not readable.
    """
    entries = convert(results, "results")
    if isinstance(ground_truth, dict):
        data = formats.parse(ground_truth)
        truth = Truth(data, federated_in(ground_truth, data))
    else:
        data = ground_truth if isinstance(ground_truth, Dataset) else formats.read(ground_truth)
        truth = Truth(data, federated_of(data))
    return _score(truth, entries, iou_types, "results", max_dets, boundary)


def score_files(annotations: Path, predictions: Path, *, max_dets: int = MOST, boundary: bool = False) -> Metrics:
    """Score a result file: boxes where its entries carry `bbox`, masks where they carry `segmentation`."""
    entries = read(predictions)
    dataset = formats.read(annotations)
    for note in dataset.notes:
        warnings.warn(f"{annotations}: {note}", stacklevel=2)
    truth, source = Truth(dataset, federated_of(dataset)), str(predictions)
    return _score(truth, entries, carried(entries, source), source, max_dets, boundary)


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
    """The twelve numbers in percent, one row for boxes and one for masks; below them those of other sections."""
    blocks = [_rows(headline(metrics)), *([f"{title}:", *_rows(scores)] for title, scores in sections(metrics))]
    return "\n".join(chain.from_iterable(blocks))


def sections(metrics: Mapping[str, Any]) -> list[tuple[str, dict[str, Scores]]]:
    """(what they are, per IoU type) of the scores besides COCO's twelve."""
    return [(title, metrics[section]) for section, title in SECTIONS.items() if section in metrics]


def _rows(scores: Mapping[str, Scores]) -> list[str]:
    names = list(next(iter(scores.values()), {}))
    rows = [["%", *names]]
    rows += [[TITLES[kind], *map(percent, values.values())] for kind, values in scores.items()]
    widths = [max(7, len(name) + 1) for name in names]
    return [
        row[0].ljust(6) + "".join(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))
        for row in rows
    ]


def _score(
    truth: Truth, entries: Sequence[Result], iou_types: Sequence[IouType], source: str, max_dets: int, boundary: bool
) -> Metrics:
    evaluation = Evaluation(truth, iou_types, max_dets=max_dets, boundary=boundary)
    entries = by_name(truth, entries, source)
    for images, found in batches(truth, entries, iou_types, source):
        evaluation.add_columns(images, found)
    return evaluation.metrics()


def _summary(curves: Curves) -> Scores:
    return _named(dict(zip(NAMES, curves.summary, strict=True)))


def _named(scores: Mapping[str, float]) -> Scores:
    return {name: _known(value) for name, value in scores.items()}


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
