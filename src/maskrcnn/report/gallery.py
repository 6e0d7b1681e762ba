"""Truth beside prediction for the images that went best, as usual, and worst."""

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import decode_picture, decode_raw
from maskrcnn.data.formats.coco import segmentations
from maskrcnn.data.parts import Pixels, read_window, window_size
from maskrcnn.data.tiles import cut_images
from maskrcnn.draw import draw_instances
from maskrcnn.evaluate.error_kinds import MIN_SCORE
from maskrcnn.evaluate.hotcoco_engine import run_lengths, written_ids
from maskrcnn.evaluate.results import Result, compress, read
from maskrcnn.fonts import note_unreadable
from maskrcnn.instances import crop_of
from maskrcnn.masks import counts_from_string
from maskrcnn.overview import Overview, factor_for, reduced
from maskrcnn.picture import picture

EACH = 3
"""Images of each kind."""
LONGEST = 560
"""Pixels of an image's longer side on the page."""
LARGE = 4096
"""Pixels of the longer side from which on an image is reduced before it is drawn on."""
PART = 2048
"""Side of the parts that a large TIFF is read in."""


class Example(NamedTuple):
    """One image twice, as JPEG in data URIs."""

    kind: str
    quality: dict[str, Any]
    """Its row of `Metrics.images`."""
    file_name: str
    truth: str
    prediction: str
    size: tuple[int, int]
    """(width, height) on the page."""


def examples(dataset: Dataset, predictions: Path, images: Sequence[dict[str, Any]]) -> list[Example]:
    """Draw the chosen images of a data set.

    images   rows of `Metrics.images`
    Raises OSError or ValueError when the images or predictions are no longer there.
    """
    note_unreadable(dataset.category_names)
    shown: dict[float | str, list[Result]] = {}
    for entry in read(predictions):
        if entry.score >= MIN_SCORE:
            shown.setdefault(entry.image_id, []).append(entry)
    indices = {number: index for index, number in enumerate(written_ids(dataset))}
    drawn = []
    for kind, row in choose(images):
        if row["id"] not in indices:
            raise ValueError(f"{dataset.annotations} has no image {row['id']} any more, which was scored")
        image = indices[row["id"]]
        annotated = _draw_truth(dataset, image)
        predicted = _draw_results(dataset, image, shown.get(row["id"], []))
        name = dataset.file_names[image]
        drawn.append(Example(kind, row, name, embed(annotated), embed(predicted), annotated.size))
    return drawn


def choose(images: Sequence[dict[str, Any]], each: int = EACH) -> list[tuple[str, dict[str, Any]]]:
    """Best, typical and worst images by F1, each once; among equals those with more objects.

    >>> choose([{"id": n, "f1": n / 4, "found": 1, "wrong": 0, "missed": 0} for n in range(4)], each=1)[0][1]["id"]
    3
    """
    rest = [row for row in images if row["f1"] is not None]
    if not rest:
        return []
    usual = median(row["f1"] for row in rest)
    orders = {
        "best": lambda row: (-row["f1"], -row["found"], row["id"]),
        "worst": lambda row: (row["f1"], -row["missed"] - row["wrong"], row["id"]),
        "typical": lambda row: (abs(row["f1"] - usual), -row["found"] - row["missed"], row["id"]),
    }
    each = min(each, max(1, len(rest) // len(orders)))
    chosen = {}
    for kind, order in orders.items():
        chosen[kind] = sorted(rest, key=order)[:each]
        rest = [row for row in rest if row not in chosen[kind]]
    return [(kind, row) for kind in ("best", "typical", "worst") for row in chosen[kind]]


def _draw_truth(dataset: Dataset, image: int) -> Image.Image:
    size, chosen = dataset.sizes[image].tolist(), dataset.objects(image)
    masks = (run_lengths(mask, *size)["counts"] for mask in segmentations(dataset, image))
    return _draw(dataset, image, dataset.boxes[chosen], dataset.labels[chosen].tolist(), masks)


def _draw_results(dataset: Dataset, image: int, results: Sequence[Result]) -> Image.Image:
    height, width = dataset.sizes[image].tolist()
    labels = [dataset.category_ids.index(one.category_id) + 1 for one in results]
    corners = np.array([one.bbox or (0.0,) * 4 for one in results], np.float32).reshape(-1, 4)
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    has_masks = all(one.segmentation for one in results)
    masks = (compress(one.segmentation, (height, width)) for one in results) if has_masks else None
    return _draw(dataset, image, boxes, labels, masks, [one.score for one in results])


def _draw(
    dataset: Dataset,
    image: int,
    boxes: Float32[np.ndarray, "n 4"],
    labels: Sequence[int],
    masks: Iterable[str] | None,
    scores: Sequence[float] | None = None,
) -> Image.Image:
    """An image of the page's size with some objects, whose masks are compressed run lengths."""
    height, width = dataset.sizes[image].tolist()
    factor = factor_for((height, width), LARGE)
    drawn = draw_instances(
        _pixels(dataset, image, factor),
        boxes / factor,
        None if masks is None else (crop_of(counts_from_string(mask), height, factor) for mask in masks),
        [dataset.category_names[label - 1] for label in labels],
        scores,
        labels=labels,
    )
    drawn.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return drawn


def _pixels(dataset: Dataset, image: int, factor: int) -> Pixels:
    """An image reduced by a whole factor; a TIFF that is reduced is read part by part."""
    path, size = dataset.images / dataset.file_names[image], tuple(dataset.sizes[image].tolist())
    if factor > 1 and isinstance(path, Path) and window_size(path) is not None:
        overview, by_parts = Overview(size, LARGE), partial(decode_raw, max_rowsize=None)
        for window in cut_images(np.array([size]), PART, factor / PART).windows.tolist():
            pixels = read_window(path, tuple(window), size, by_parts)
            assert pixels is not None, "windows of the file can be read"
            overview.add(tuple(window), pixels)
        assert overview.image is not None, "every image has a part"
        return picture(overview.image)
    return reduced(decode_picture(path, size, max_rowsize=None), factor)


def embed(image: Image.Image) -> str:
    """An image as JPEG in a data URI."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()
