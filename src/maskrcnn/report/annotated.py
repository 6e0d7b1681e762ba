"""Images with what a person annotated on them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import decode_picture
from maskrcnn.data.oddities import Oddities
from maskrcnn.draw import draw_instances
from maskrcnn.masks import edges_from_rings
from maskrcnn.ops.rasterize import rasterize

Pixels = UInt8[np.ndarray, "_ _ 3"]
ROOM = (1600, 1600)
"""(width, height) of the largest drawings; larger images are reduced."""


def read_pixels(data: Dataset, image: int, oddities: Oddities | None = None) -> Pixels:
    """The pixels of an image, by its index. Raises OSError or ValueError with its name.

    oddities   are told what the image has
    """
    height, width = data.sizes[image].tolist()
    return decode_picture(data.images / data.file_names[image], (height, width), oddities=oddities)


class Shown(NamedTuple):
    """An image and its objects, ready to be drawn."""

    pixels: Pixels
    """At any scale."""
    size: tuple[int, int]
    """(height, width) of the frame of boxes and masks."""
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    mask: Callable[[int, float, int], Bool[np.ndarray, "s s"]]
    """Draws an object's mask on a square of so many pixels of the frame, from its top left, in so many cells a side."""


def draw_annotated(data: Dataset, image: int, pixels: Pixels, room: tuple[int, int] = ROOM) -> Image.Image:
    """An image with its objects; those that are not learnt are left out.

    pixels   of the image, at any scale
    room     as of `draw_shown`
    """
    return draw_shown(annotated(data, image, pixels), data.category_names, room)


def annotated(data: Dataset, image: int, pixels: Pixels) -> Shown:
    """An image and what a person annotated on it."""
    objects = np.arange(len(data.labels))[data.objects(image)]
    objects = objects[data.learnt[objects]]
    height, width = data.sizes[image].tolist()
    zero = torch.zeros(1, dtype=torch.int64)

    def mask(item: int, side: float, cells: int) -> Bool[np.ndarray, "s s"]:
        edges = torch.from_numpy(edges_from_rings(data.outline(int(objects[item]))))[None]
        whole = torch.tensor([[0.0, 0.0, side, side]])
        return rasterize(edges, torch.tensor([[0, edges.shape[1]]]), whole, zero, zero, size=cells)[0].numpy() > 0

    return Shown(pixels, (height, width), data.boxes[objects], data.labels[objects], mask)


def draw_shown(shown: Shown, names: Sequence[str], room: tuple[int, int] = ROOM) -> Image.Image:
    """An image with its objects.

    names   of classes, in the order of labels
    room    (width, height) that it is reduced to before it is drawn on: lines and labels keep their size
    """
    pixels = _reduced(shown.pixels, room)
    (height, width), cells = pixels.shape[:2], max(pixels.shape[:2])
    scale = cells / max(shown.size)
    masks = (shown.mask(item, cells / scale, cells)[:height, :width] for item in range(len(shown.labels)))
    called = [names[label - 1] for label in shown.labels]
    return draw_instances(pixels, scale * shown.boxes, masks, called, labels=shown.labels.tolist())


def _reduced(pixels: Pixels, room: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(room[0] / width, room[1] / height)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
