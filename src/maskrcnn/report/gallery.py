"""Truth beside prediction for the pictures that went best, as usual, and worst."""

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import decode
from maskrcnn.draw import draw_instances
from maskrcnn.evaluate.error_kinds import MIN_SCORE
from maskrcnn.evaluate.hotcoco_engine import bitmap

EACH = 3
"""Pictures of each kind."""
LONGEST = 560
"""Pixels of a picture's longer side on the page."""


class Example(NamedTuple):
    """One picture twice, as JPEG in data URIs."""

    kind: str
    quality: dict[str, Any]
    """Its row of `Metrics.images`."""
    file_name: str
    truth: str
    prediction: str
    size: tuple[int, int]
    """(width, height) on the page."""


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int
    width: int


class _Category(msgspec.Struct):
    id: int
    name: str


class _Object(msgspec.Struct):
    """An annotation, or a result, which has a score."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    segmentation: Any = None
    score: float | None = None


class _Truth(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Object]


def examples(dataset: Dataset, predictions: Path, images: Sequence[dict[str, Any]]) -> list[Example]:
    """Draw the chosen pictures of a data set.

    images   rows of `Metrics.images`
    Raises OSError or ValueError when the pictures or annotations are no longer there.
    """
    chosen = choose(images)
    folder = dataset.images
    truth = msgspec.json.decode(dataset.annotations.read_bytes(), type=_Truth)
    results = msgspec.json.decode(predictions.read_bytes(), type=list[_Object])
    wanted = {row["id"] for _, row in chosen}
    shown = [entry for entry in results if entry.image_id in wanted and (entry.score or 0.0) >= MIN_SCORE]
    records = {image.id: image for image in truth.images if image.id in wanted}
    drawn = []
    for kind, row in chosen:
        image = records[row["id"]]
        annotated = _draw(image, folder, truth.annotations, truth.categories)
        predicted = _draw(image, folder, shown, truth.categories)
        drawn.append(Example(kind, row, image.file_name, _embed(annotated), _embed(predicted), annotated.size))
    return drawn


def choose(images: Sequence[dict[str, Any]], each: int = EACH) -> list[tuple[str, dict[str, Any]]]:
    """Best, typical and worst pictures by F1, each once; among equals those with more objects.

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


def _draw(image: _Image, folder: Path, objects: Sequence[_Object], categories: Sequence[_Category]) -> Image.Image:
    objects = [entry for entry in objects if entry.image_id == image.id]
    ordered = sorted(categories, key=lambda category: category.id)
    labels = {category.id: label for label, category in enumerate(ordered, 1)}
    names = {category.id: category.name for category in categories}
    corners = [entry.bbox or (0.0, 0.0, 0.0, 0.0) for entry in objects]
    boxes = np.array([(x, y, x + width, y + height) for x, y, width, height in corners], np.float32).reshape(-1, 4)
    drawn = draw_instances(
        decode(folder / image.file_name, (image.height, image.width), max_rowsize=None),
        boxes,
        _bitmaps(image, objects) if all(entry.segmentation for entry in objects) else None,
        [names[entry.category_id] for entry in objects],
        [entry.score or 0.0 for entry in objects] if any(entry.score is not None for entry in objects) else None,
        labels=[labels[entry.category_id] for entry in objects],
    )
    drawn.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return drawn


def _bitmaps(image: _Image, objects: Sequence[_Object]) -> Iterator[Bool[np.ndarray, "h w"]]:
    return (bitmap(entry.segmentation, image.height, image.width) for entry in objects)


def _embed(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()
