"""Images with what a person annotated on them."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
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


def draw_annotated(data: Dataset, image: int, pixels: Pixels, room: tuple[int, int] = ROOM) -> Image.Image:
    """An image with its objects; those that are not learnt are left out.

    pixels   of the image, at any scale
    room     (width, height) that it is reduced to before it is drawn on: lines and labels keep their size
    """
    pixels = _reduced(pixels, room)
    scale = max(pixels.shape[:2]) / int(data.sizes[image].max())
    objects = np.arange(len(data.labels))[data.objects(image)]
    objects = objects[data.learnt[objects]]
    names = [data.category_names[label - 1] for label in data.labels[objects]]
    masks = _masks(data, objects, pixels.shape[:2], scale)
    return draw_instances(pixels, scale * data.boxes[objects], masks, names, labels=data.labels[objects].tolist())


def _reduced(pixels: Pixels, room: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(room[0] / width, room[1] / height)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def _masks(
    data: Dataset, objects: Int64[np.ndarray, " n"], size: tuple[int, int], scale: float
) -> Iterator[Bool[np.ndarray, "h w"]]:
    """What each object covers, one whole image at a time."""
    side = max(size)
    whole = torch.tensor([[0.0, 0.0, side / scale, side / scale]])  # its cells are the pixels of the image
    zero = torch.zeros(1, dtype=torch.int64)
    for index in objects.tolist():
        edges = torch.from_numpy(edges_from_rings(data.outline(index)))[None]
        mask = rasterize(edges, torch.tensor([[0, edges.shape[1]]]), whole, zero, zero, size=side)[0]
        yield mask[: size[0], : size[1]].numpy() > 0
