"""A data set as COCO looks at it, masks in COCO's forms, and COCO's numbers: the only file that knows hotcoco.

Inside, images and categories are counted in order of their ids: that is the order of pycocotools' ties, and ids of any
size fit into an array of floats.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import hotcoco
import numpy as np
from hotcoco import mask as rle
from jaxtyping import Float64, Int64
from numpy import ndarray

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.formats.coco import segmentations
from maskrcnn.evaluate.lvis import Federated
from maskrcnn.evaluate.overlaps import Runs

IouType = Literal["bbox", "segm"]
MOST = 100
"""Results of one class in an image that COCO counts."""


LONGEST_ID = 100
"""Digits of an id that is looked up: Python computes with no more than some thousand."""


class Found(NamedTuple):
    """Results of some images, image by image; they count from the best, whatever their order."""

    images: Int64[ndarray, " D"]
    categories: Int64[ndarray, " D"]
    scores: Float64[ndarray, " D"]
    boxes: Float64[ndarray, "D 4"]
    """x, y, width, height; anything where boxes are not scored."""
    masks: list[str]
    """Compressed run lengths; none where masks are not scored."""
    runs: Runs
    """The same, decoded."""


class Curves(NamedTuple):
    """COCO's numbers of one IoU type; -1 where there is nothing to score."""

    summary: list[float]
    """The twelve, in COCO's order."""
    precision: Float64[ndarray, "10 101 K"]
    """At each IoU and recall, of all sizes and 100 results."""
    recall: Float64[ndarray, "10 K"]
    mean: dict[str, list[float]]
    """"recall", and the mean precision over classes at IoU "0.50" and "0.75"."""


class Truth:
    """A data set as COCO's evaluation looks at it.

    federated   what LVIS knows of it besides, `lvis.federated_of(data)`
    """

    def __init__(self, data: Dataset, federated: Federated | None = None) -> None:
        self._data, self._boxes, self.federated = data, data.boxes_xywh(), federated
        self._rows = np.argsort(data.image_ids)
        ids = written_ids(data)
        self.image_ids, self.category_ids = [ids[row] for row in self._rows.tolist()], list(data.category_ids)
        self.images: dict[float | str, int] = {number: index for index, number in enumerate(self.image_ids)}
        self.source = data.annotations
        self.categories: dict[float, int] = {number: index for index, number in enumerate(self.category_ids)}
        self.names = list(data.category_names)
        self.sizes: list[tuple[int, int]] = [(height, width) for height, width in data.sizes[self._rows].tolist()]

    def number_of(self, image_id: float | str) -> int:
        """Our number of an image, -1 where no image has this id; a whole number may be given as text, or as 7.0."""
        if isinstance(image_id, float) and image_id.is_integer():
            image_id = int(image_id)
        if self._data.stated_ids is not None:
            return self.images.get(str(image_id), -1)
        if isinstance(image_id, str):
            is_number = image_id.isdecimal() and len(image_id) < LONGEST_ID
            return self.images.get(int(image_id), -1) if is_number else -1
        return self.images.get(image_id, -1)

    def file_names(self) -> list[str]:
        """The file of each image, in the order of our numbers; empty where the data set names none."""
        names = list(self._data.file_names)
        return [names[row] for row in self._rows.tolist()]

    def num_objects(self) -> list[int]:
        """Objects of each category, crowds aside."""
        labels = self._data.labels[~self._data.crowd]
        counts: list[int] = np.bincount(labels, minlength=len(self.names) + 1)[1:].tolist()
        return counts

    def annotations(self, image: int, with_masks: bool) -> list[dict[str, Any]]:
        """Objects of one image in the file's order, by which ties go, and in our numbers; masks as run lengths.

        An area that is not stated is measured: that of the mask where there is an outline, else of the box.
        """
        data, row, size = self._data, int(self._rows[image]), list(self.sizes[image])
        chosen = data.objects(row)
        columns = data.annotation_ids, data.labels, data.crowd, self._boxes, data.areas
        found: list[dict[str, Any]] = [
            {"id": id, "image_id": image, "category_id": label - 1, "iscrowd": int(crowd), "bbox": box, "area": area}
            for id, label, crowd, box, area in zip(*(column[chosen].tolist() for column in columns), strict=True)
        ]
        unknown = np.isnan(data.areas[chosen])
        if with_masks or unknown.any():
            masks = [run_lengths(mask, *size) for mask in segmentations(data, row)]
        if with_masks:
            for annotation, mask in zip(found, masks, strict=True):
                annotation["segmentation"] = mask
        for index in np.flatnonzero(unknown).tolist():
            has_outline = not data.flags[chosen.start + index] & Flag.NO_OUTLINE
            _, _, width, height = found[index]["bbox"]
            found[index]["area"] = float(rle.area(masks[index])) if has_outline else width * height
        return found


class Matcher:
    """Matches the results of whole images with their objects, and keeps some forty bytes of each result.

    max_dets    results of one class in an image that count
    federated   LVIS's way, as far as images are annotated: then 300 results of an image count, whatever their classes
    """

    def __init__(
        self, truth: Truth, iou_type: IouType, *, max_dets: int = MOST, federated: Federated | None = None
    ) -> None:
        self._truth, self._sizes, self._iou_type, self._federated = truth, truth.sizes, iou_type, federated
        categories: list[dict[str, Any]] = [{"id": index, "name": name} for index, name in enumerate(truth.names)]
        if federated is None:
            counted = hotcoco.Params(iou_type)
            counted.max_dets = sorted({1, min(10, max_dets), max_dets})
            self._stream = hotcoco.StreamingEval(categories, iou_type, params=counted)
        else:
            for category, number in zip(categories, truth.category_ids, strict=True):
                category["frequency"] = federated.frequencies[number]
            self._stream = hotcoco.StreamingEval(categories, iou_type, lvis_style=True)

    def add(self, images: Iterable[int], annotations: list[dict[str, Any]], found: Found) -> None:
        """All objects and results of some images. An image that is added again replaces what was known of it."""
        records = [self._record(image) for image in images]
        if self._iou_type == "bbox":
            self._stream.update(records, annotations, _table(found, found.boxes))
            return
        sizes = [self._sizes[image] for image in found.images]
        masks: list[Any] = [{"size": size, "counts": counts} for size, counts in zip(sizes, found.masks, strict=True)]
        # A row is as large as its box, but a mask counts by its own area: it goes with a box of that area.
        boxes = np.tile([0, 0, 1, 1], (len(masks), 1))
        boxes[:, 2] = found.runs.areas
        self._stream.update(records, annotations, _table(found, boxes), segmentation=masks)

    def to_bytes(self) -> bytes:
        """What was matched, for `merge` in another process of the same hotcoco."""
        return bytes(self._stream.to_bytes())

    def merge(self, others: Iterable[bytes]) -> None:
        """Take over what others matched."""
        self._stream = hotcoco.StreamingEval.merge(
            [self._stream, *(hotcoco.StreamingEval.from_bytes(state) for state in others)]
        )

    def summary(self) -> list[float]:
        """Compute the scores of all images together, twelve in COCO's order or LVIS's thirteen, as `curves`."""
        return _stats(self._accumulated())

    def curves(self) -> Curves:
        """Compute precision and recall of all images together; nothing can be added afterwards."""
        evaluation = self._accumulated()
        summary = _stats(evaluation)
        arrays, mean = evaluation.eval or {}, evaluation.report()["curves"]
        return Curves(
            summary,
            arrays["precision"][..., 0, -1],
            arrays["recall"][..., 0, -1],
            {"recall": mean["rec_thrs"], "0.50": mean["pr@0.50"], "0.75": mean["pr@0.75"]},
        )

    def _record(self, image: int) -> dict[str, Any]:
        height, width = self._sizes[image]
        record: dict[str, Any] = {"id": image, "height": height, "width": width}
        if self._federated is not None:
            number, known = int(self._truth.image_ids[image]), self._truth.categories
            lists = self._federated.negative[number], self._federated.not_exhaustive[number]
            negative, not_exhaustive = ([known[id] for id in ids if id in known] for ids in lists)
            record |= {"neg_category_ids": negative, "not_exhaustive_category_ids": not_exhaustive}
        return record

    def _accumulated(self) -> hotcoco.COCOeval:
        evaluation = self._stream.finalize()
        evaluation.accumulate()
        return evaluation


def written_ids(data: Dataset) -> Sequence[int | str]:
    """Image ids as the source writes them, which results carry: text where they are not whole numbers of 64 bits."""
    ids: list[int] = data.image_ids.tolist()
    return ids if data.stated_ids is None else data.stated_ids


def compressed(mask: Any, height: int, width: int) -> str:
    """Compressed run lengths of any form of mask: RLE, compressed (str or bytes) or not, or polygons.

    Raises ValueError, TypeError or KeyError for anything else, for another size, and for run lengths that are damaged.
    """
    encoded = run_lengths(mask, height, width)
    rle.area(encoded)  # decodes
    return encoded["counts"]


def run_lengths(mask: Any, height: int, width: int) -> dict[str, Any]:
    """COCO's record of any form of mask; compressed run lengths are taken as they are."""
    size = [height, width]
    if not isinstance(mask, dict):
        encoded = rle.merge(rle.frPyObjects(mask, height, width))
    elif list(mask["size"]) != size:
        raise ValueError(f"its size is {list(mask['size'])}, the image's {size} (height, width)")
    elif not isinstance(mask["counts"], str | bytes):
        encoded = rle.frPyObjects(mask, height, width)
    else:
        encoded = mask
    counts = encoded["counts"]
    return {"size": size, "counts": counts if isinstance(counts, str) else counts.decode("ascii")}


def _stats(evaluation: hotcoco.COCOeval) -> list[float]:
    evaluation.summary_lines()  # computes `stats` without printing
    return [float(value) for value in evaluation.stats]


def _table(found: Found, boxes: ndarray) -> Float64[ndarray, "D 7"]:
    """Results as hotcoco takes them without an object for each: image, box, score, category."""
    return np.column_stack([found.images, boxes, found.scores, found.categories]).astype(np.float64)


def sentence(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error.args[0] if isinstance(error, KeyError) else error).splitlines()[0]
