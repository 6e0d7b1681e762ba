"""Annotations as they are read, masks in COCO's forms, and COCO's numbers: the only file that knows hotcoco.

Inside, images and categories are counted in order of their ids: that is the order of pycocotools' ties, and ids of any
size fit into an array of floats.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import hotcoco
import numpy as np
from hotcoco import mask as rle
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from maskrcnn.evaluate.overlaps import Runs

IouType = Literal["bbox", "segm"]


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
    """An annotation file, checked."""

    def __init__(self, ground_truth: Path | dict[str, Any]) -> None:
        """Raises ValueError, in a sentence that names the file, for anything but COCO annotations."""
        self._coco = _read(ground_truth)
        images, categories = self._coco.imgs, self._coco.cats
        self.image_ids, self.category_ids = sorted(images), sorted(categories)
        self._order = {number: place for place, number in enumerate(self._coco.anns)}
        self.images = {number: place for place, number in enumerate(self.image_ids)}
        self.categories = {number: place for place, number in enumerate(self.category_ids)}
        self.names = [categories[number]["name"] for number in self.category_ids]
        self.sizes = [(images[number].get("height", 0), images[number].get("width", 0)) for number in self.image_ids]

    def num_objects(self) -> list[int]:
        """Of each category, crowds aside."""
        return [len(self._coco.get_ann_ids(cat_ids=[number], iscrowd=False)) for number in self.category_ids]

    def annotations(self, image: int, with_masks: bool) -> list[dict[str, Any]]:
        """Of one image, in the file's order and our numbers; masks as run lengths, so that nobody encodes them again.

        An object without a mask has that of its box; a mask that is damaged has no pixels.
        An area that is missing is measured by hotcoco: that of the mask where there is one, else of the box.
        """
        numbers = self._coco.get_ann_ids(img_ids=[self.image_ids[image]])
        found = self._coco.load_anns(sorted(numbers, key=self._order.__getitem__))  # ties go by it
        for annotation in found:
            if with_masks:
                if "area" not in annotation and not annotation.get("segmentation"):
                    annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
                annotation["segmentation"] = self._mask(annotation, list(self.sizes[image]))
            annotation |= {"image_id": image, "category_id": self.categories[annotation["category_id"]]}
        return found

    def _mask(self, annotation: dict[str, Any], size: list[int]) -> dict[str, Any]:
        try:
            mask = self._coco.ann_to_rle(annotation)
        except ValueError:
            mask = {}
        return mask if mask.get("size") == size else {"size": size, "counts": b""}


class Matcher:
    """Matches the results of whole images with their objects, and keeps some forty bytes of each result."""

    def __init__(self, truth: Truth, iou_type: IouType) -> None:
        self._sizes, self._iou_type = truth.sizes, iou_type
        categories = [{"id": place, "name": name} for place, name in enumerate(truth.names)]
        self._stream = hotcoco.StreamingEval(categories, iou_type)

    def add(self, images: Iterable[int], annotations: list[dict[str, Any]], found: Found) -> None:
        """All objects and results of some images. An image that is added again replaces what was known of it."""
        records = [{"id": image, "height": self._sizes[image][0], "width": self._sizes[image][1]} for image in images]
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

    def curves(self) -> Curves:
        """Of all images together; nothing can be added afterwards."""
        evaluation = self._stream.finalize()
        evaluation.accumulate()
        evaluation.summary_lines()  # computes `stats` without printing
        arrays, mean = evaluation.eval or {}, evaluation.report()["curves"]
        return Curves(
            [float(value) for value in evaluation.stats],
            arrays["precision"][..., 0, -1],
            arrays["recall"][..., 0, -1],
            {"recall": mean["rec_thrs"], "0.50": mean["pr@0.50"], "0.75": mean["pr@0.75"]},
        )


def compressed(segmentation: Any, height: int, width: int) -> str:
    """Compressed run lengths of any form of mask: RLE, compressed (str or bytes) or not, or polygons.

    Raises ValueError, TypeError or KeyError for anything else, for another size, and for run lengths that are damaged.
    """
    mask = _run_lengths(segmentation, height, width)
    rle.area(mask)  # decodes
    counts = mask["counts"]
    return counts if isinstance(counts, str) else counts.decode("ascii")


def bitmap(segmentation: Any, height: int, width: int) -> Bool[ndarray, "{height} {width}"]:
    """The pixels of an annotation's or a result's mask, in any of COCO's forms."""
    return np.ascontiguousarray(rle.decode(_run_lengths(segmentation, height, width))).astype(bool)


def _read(ground_truth: Path | dict[str, Any]) -> hotcoco.COCO:
    source = "annotations" if isinstance(ground_truth, dict) else str(ground_truth)
    try:
        truth = hotcoco.COCO(ground_truth)
    except FileNotFoundError as error:
        raise ValueError(f"{source}: there is no such annotation file") from error
    except OSError as error:
        raise ValueError(f"{source}: cannot be read; expected an annotation file") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{source}: not a COCO annotation file: {sentence(error)}") from error
    if not truth.imgs or not truth.cats:
        raise ValueError(f"{source}: expected images and categories of a COCO annotation file, found none")
    twice = [number for number, count in Counter(truth.get_ann_ids()).items() if count > 1]
    if twice:  # hotcoco and pycocotools alike would take the last of them for all
        raise ValueError(
            f"{source}: annotation id {twice[0]} occurs more than once; give each annotation an id of its own"
        )
    return truth


def _run_lengths(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    if not isinstance(segmentation, dict):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    size = list(segmentation["size"])
    if size != [height, width]:
        raise ValueError(f"its size is {size}, the picture's {[height, width]} (height, width)")
    if not isinstance(segmentation["counts"], str | bytes):
        return rle.frPyObjects(segmentation, height, width)
    return {"size": size, "counts": segmentation["counts"]}


def _table(found: Found, boxes: ndarray) -> Float64[ndarray, "D 7"]:
    """Results as hotcoco takes them without an object for each: image, box, score, category."""
    return np.column_stack([found.images, boxes, found.scores, found.categories]).astype(np.float64)


def sentence(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error.args[0] if isinstance(error, KeyError) else error).splitlines()[0]
