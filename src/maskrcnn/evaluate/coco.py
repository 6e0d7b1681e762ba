"""COCO scores of a list of results. The only file that knows hotcoco.

A result is one object found: {"image_id", "category_id", "score", "bbox": [x, y, width, height],
"segmentation": RLE or polygons}, in pixels of the original picture. Scores are fractions; None where
the annotations hold no object to score (of that size, or at all).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import hotcoco
import msgspec
import numpy as np
from hotcoco import mask as rle
from jaxtyping import Bool

IouType = Literal["bbox", "segm"]
Scores = dict[str, float | None]

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TITLES = {"bbox": "box", "segm": "mask"}
MIN_SCORE = 0.5
"""What a person is shown by default; confusion and the quality of single images are counted from here."""
MATCH_IOU = 0.5

DASH = "\N{EN DASH}"
"""Stands for a number where there was nothing to score."""

_TIDE = {"Cls": "class", "Loc": "location", "Both": "both", "Dupe": "duplicate", "Bkg": "background", "Miss": "missed"}


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
    """Of the packages, Python and the device that computed it."""


class Result(msgspec.Struct):
    """One entry of a result file, of any maker."""

    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: Any = None


class _Evaluation(msgspec.Struct, frozen=True):
    """One IoU type, matched: `entries[i]` is hotcoco's detection i + 1."""

    matches: hotcoco.COCOeval
    entries: list[dict[str, Any]]


def score(
    ground_truth: Path | dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_types: Sequence[IouType] = ("bbox", "segm"),
) -> Metrics:
    """Compare results with annotations as COCO does (ten IoUs, at most 100 results per image and class).

    ground_truth    an annotation file, or its content; all its images count, also those without any result
    segmentation    compressed RLE (str or bytes), uncompressed RLE, or polygons
    Raises ValueError, saying which result, for an unknown image or category, or a field that is not readable.
    """
    try:
        entries = msgspec.convert(list(results), list[Result])
    except msgspec.ValidationError as error:
        raise ValueError(f"results: {_sentence(error)}") from error
    return _score(_read_truth(ground_truth), entries, iou_types, source="results")


def score_files(annotations: Path, predictions: Path) -> Metrics:
    """Score a result file: boxes where its entries carry `bbox`, masks where they carry `segmentation`."""
    try:
        entries = msgspec.json.decode(Path(predictions).read_bytes(), type=list[Result])
    except FileNotFoundError as error:
        raise ValueError(f"{predictions}: there is no such result file") from error
    except OSError as error:
        raise ValueError(f"{predictions}: cannot be read ({error.strerror}); expected a result file") from error
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{predictions}: not a COCO result file (a JSON list of entries with image_id, category_id, score and "
            f"bbox or segmentation): {_sentence(error)}"
        ) from error
    return _score(_read_truth(annotations), entries, _carried(entries, str(predictions)), source=str(predictions))


def headline(metrics: Mapping[str, Any]) -> dict[str, Scores]:
    """The twelve numbers of each IoU type, without the rest."""
    return {kind: metrics[kind] for kind in TITLES if kind in metrics}


def percent(value: float | None) -> str:
    """As people quote AP.

    >>> percent(0.3781)
    '37.8'
    """
    return DASH if value is None else f"{100 * value:.1f}"


def table(metrics: Metrics) -> str:
    """The twelve numbers in percent, one row for boxes and one for masks."""
    rows = [["%", *NAMES]]
    rows += [[TITLES[kind], *(percent(scores[name]) for name in NAMES)] for kind, scores in headline(metrics).items()]
    return "\n".join(row[0].ljust(6) + "".join(cell.rjust(7) for cell in row[1:]) for row in rows)


def bitmap(segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """The pixels of an annotation's or a result's mask, in any of COCO's forms."""
    return np.ascontiguousarray(rle.decode(_compressed(segmentation, height, width))).astype(bool)


def _score(truth: hotcoco.COCO, entries: list[Result], iou_types: Sequence[IouType], source: str) -> Metrics:
    detections = _detections(truth, entries, iou_types, source)
    evaluations = {name: _evaluate(truth, detections[name], name) for name in iou_types}
    kind: IouType = "segm" if "segm" in evaluations else "bbox"
    finest = evaluations[kind]
    metrics = Metrics()
    if "bbox" in evaluations:
        metrics["bbox"] = _summary(evaluations["bbox"])
    if "segm" in evaluations:
        metrics["segm"] = _summary(evaluations["segm"])
    metrics["per_class"] = _per_class(truth, evaluations)
    metrics["curves"] = {name: _curves(evaluation) for name, evaluation in evaluations.items()}
    metrics["errors"] = _errors(finest)
    diagnostics = finest.matches.image_diagnostics(iou_thr=MATCH_IOU)
    shown = _shown(finest, diagnostics["dt_status"])
    metrics["confusion"] = _confusion(truth, [entry for entry, _ in shown], kind)
    metrics["images"] = _images(shown, diagnostics["img_summary"])
    return metrics


def _read_truth(ground_truth: Path | dict[str, Any]) -> hotcoco.COCO:
    source = "annotations" if isinstance(ground_truth, dict) else str(ground_truth)
    try:
        truth = hotcoco.COCO(ground_truth)
    except FileNotFoundError as error:
        raise ValueError(f"{source}: there is no such annotation file") from error
    except OSError as error:
        raise ValueError(f"{source}: cannot be read; expected an annotation file") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{source}: not a COCO annotation file: {_sentence(error)}") from error
    if not truth.imgs or not truth.cats:
        raise ValueError(f"{source}: expected images and categories of a COCO annotation file, found none")
    twice = [number for number, count in Counter(truth.get_ann_ids()).items() if count > 1]
    if twice:  # hotcoco and pycocotools alike would take the last of them for all
        raise ValueError(
            f"{source}: annotation id {twice[0]} occurs more than once; give each annotation an id of its own"
        )
    _fill_areas(truth)
    return truth


def _fill_areas(truth: hotcoco.COCO) -> None:
    """Stored areas are kept (COCO's crowds depend on it); a missing one, which hotcoco reads as 0, is measured."""
    suspects = truth.load_anns(truth.get_ann_ids(area_rng=[-1.0, 1e-9]))
    missing = [annotation for annotation in suspects if "area" not in annotation]
    if missing:
        areas = [_measure(truth, annotation) for annotation in missing]
        truth.update_anns(ids=[annotation["id"] for annotation in missing], area=areas)


def _measure(truth: hotcoco.COCO, annotation: dict[str, Any]) -> float:
    if annotation.get("segmentation"):
        return float(rle.area(truth.ann_to_rle(annotation)))
    return float(annotation["bbox"][2] * annotation["bbox"][3])


def _carried(entries: list[Result], source: str) -> tuple[IouType, ...]:
    """The IoU types that every entry can be scored for; both for an empty list."""
    fields: dict[IouType, Callable[[Result], bool]] = {
        "bbox": lambda entry: entry.bbox is not None,
        "segm": lambda entry: bool(entry.segmentation),
    }
    carried = tuple(kind for kind, present in fields.items() if all(map(present, entries)))
    if not carried:
        raise ValueError(f"{source}: expected bbox in every result, or segmentation in every result, found neither")
    return carried


def _detections(
    truth: hotcoco.COCO, entries: list[Result], iou_types: Sequence[IouType], source: str
) -> dict[IouType, list[dict[str, Any]]]:
    """Checked entries in hotcoco's form. Masks go without their boxes, so that their area is the mask's."""
    images, categories = truth.imgs, truth.cats
    detections: dict[IouType, list[dict[str, Any]]] = {kind: [] for kind in iou_types}
    for position, entry in enumerate(entries):
        where = f"{source}: result {position} (image {entry.image_id})"
        if entry.image_id not in images:
            raise ValueError(f"{where} is of an image that is not among the {len(images)} annotated ones")
        if entry.category_id not in categories:
            raise ValueError(f"{where} has category {entry.category_id}, expected one of {_some(list(categories))}")
        if not math.isfinite(entry.score):
            raise ValueError(f"{where} has score {entry.score}, expected a finite number")
        common = {"image_id": entry.image_id, "category_id": entry.category_id, "score": entry.score}
        if "bbox" in detections:
            detections["bbox"].append(common | {"bbox": _box(entry.bbox, where)})
        if "segm" in detections:
            mask = _mask(entry.segmentation, images[entry.image_id], where)
            detections["segm"].append(common | {"segmentation": mask})
    return detections


def _box(box: tuple[float, ...] | None, where: str) -> list[float]:
    if box is None or not all(map(math.isfinite, box)):
        raise ValueError(f"{where} has bbox {box}, expected four finite numbers [x, y, width, height]")
    return list(box)


def _mask(segmentation: Any, image: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        mask = _compressed(segmentation, image["height"], image["width"])
        rle.area(mask)  # decodes, so a damaged string is met here, where we know whose it is
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where} has a segmentation that is neither RLE nor polygons: {_sentence(error)}") from error
    return mask


def _compressed(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Compressed RLE of any form of mask."""
    if not isinstance(segmentation, dict):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    size = list(segmentation["size"])
    if size != [height, width]:
        raise ValueError(f"its size is {size}, the picture's {[height, width]} (height, width)")
    if not isinstance(segmentation["counts"], str | bytes):
        return rle.frPyObjects(segmentation, height, width)
    return {"size": size, "counts": segmentation["counts"]}


def _evaluate(truth: hotcoco.COCO, entries: list[dict[str, Any]], kind: IouType) -> _Evaluation:
    matches = hotcoco.COCOeval(truth, truth.load_res(entries), kind)
    matches.evaluate()
    matches.accumulate()
    matches.summary_lines()  # computes `stats` without printing
    return _Evaluation(matches=matches, entries=entries)


def _summary(evaluation: _Evaluation) -> Scores:
    return {name: _known(value) for name, value in zip(NAMES, evaluation.matches.stats, strict=True)}


def _per_class(truth: hotcoco.COCO, evaluations: dict[IouType, _Evaluation]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"id": number, "name": category["name"], "objects": len(truth.get_ann_ids(cat_ids=[number], iscrowd=False))}
        for number, category in sorted(truth.cats.items())
    ]
    for kind, evaluation in evaluations.items():
        curves = evaluation.matches.eval or {}
        precision = curves["precision"][..., 0, -1]  # (IoU, recall, class) of all sizes, 100 results
        recall = curves["recall"][..., 0, -1]  # (IoU, class)
        for column, row in enumerate(rows):
            row[kind] = {
                "AP": _mean(precision[:, :, column]),
                "AP50": _mean(precision[0, :, column]),
                "AP75": _mean(precision[5, :, column]),
                "AR100": _mean(recall[:, column]),
            }
    return rows


def _curves(evaluation: _Evaluation) -> dict[str, list[float | None]]:
    curves = evaluation.matches.report()["curves"]
    chosen = {"recall": curves["rec_thrs"], "0.50": curves["pr@0.50"], "0.75": curves["pr@0.75"]}
    return {name: [_known(round(value, 4)) for value in values] for name, values in chosen.items()}


def _errors(evaluation: _Evaluation) -> dict[str, float]:
    gained = evaluation.matches.tide_errors(pos_thr=MATCH_IOU)["delta_ap"]
    return {name: max(0.0, float(gained[key])) for key, name in _TIDE.items()}


def _shown(evaluation: _Evaluation, status: dict[int, str]) -> list[tuple[dict[str, Any], str]]:
    """Results of `MIN_SCORE` or more, each with "tp" or "fp". Matching goes down the scores: lower ones change nothing.

    Those that fall into crowds have no status and are left out: nobody knows what is there.
    """
    numbered = enumerate(evaluation.entries, 1)
    return [(entry, status[number]) for number, entry in numbered if entry["score"] >= MIN_SCORE and number in status]


def _confusion(truth: hotcoco.COCO, shown: list[dict[str, Any]], kind: IouType) -> dict[str, Any]:
    """Which class is taken for which."""
    confusion = hotcoco.COCOeval(truth, truth.load_res(shown), kind).confusion_matrix(iou_thr=MATCH_IOU)
    matrix = confusion["matrix"]
    true, predicted = np.nonzero(matrix)
    counts = np.stack([true, predicted, matrix[true, predicted].astype(np.int64)], axis=1).tolist()
    return {"score": MIN_SCORE, "iou": MATCH_IOU, "classes": confusion["cat_names"], "counts": counts}


def _images(shown: list[tuple[dict[str, Any], str]], summaries: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """How well each image is solved. `summaries` count all results, but their tp + fn is the number of objects."""
    counts = Counter((entry["image_id"], status) for entry, status in shown)
    rows = []
    for image, summary in sorted(summaries.items()):
        found, wrong = counts[image, "tp"], counts[image, "fp"]
        missed = summary["tp"] + summary["fn"] - found
        everything = 2 * found + wrong + missed
        f1 = 2 * found / everything if everything else None
        rows.append({"id": image, "found": found, "wrong": wrong, "missed": missed, "f1": f1})
    return rows


def _known(value: float) -> float | None:
    """COCO writes -1 where there is nothing to score."""
    return None if value < 0 else float(value)


def _mean(values: np.ndarray) -> float | None:
    return _known(values.mean()) if (values > -1).all() else None


def _sentence(error: Exception) -> str:
    return str(error.args[0] if isinstance(error, KeyError) else error).splitlines()[0]


def _some(values: list[int], most: int = 8) -> str:
    return ", ".join(map(str, values[:most])) + (f", ... ({len(values)} in all)" if len(values) > most else "")
