"""A data set as a person wants to see it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from PIL.Image import Image

from maskrcnn.config import Data
from maskrcnn.data.dataset import Dataset, summary
from maskrcnn.data.decode import decode
from maskrcnn.data.split import Split, open_split
from maskrcnn.draw import draw_instances
from maskrcnn.masks import edges_from_rings
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.recipes import read_recipe


def find_data(source: str, overrides: Sequence[str]) -> Data:
    """The data settings of a recipe; of a folder those of the COCO2017 layout."""
    if is_recipe(source):
        return read_recipe(source, overrides).data
    return read_recipe("coco", [f"data.dataset_dir={source}", *overrides]).data


def is_recipe(source: str) -> bool:
    """Whether `data check demo` means the recipe: a folder that is there comes first, then names of recipes."""
    return source.endswith((".yml", ".yaml")) or (Path(source).name == source and not Path(source).is_dir())


def describe_split(settings: Data, split: Split) -> str:
    """What one split holds and what was repaired in it; raises what cannot be read."""
    return summary(open_split(settings, split))


def draw(data: Dataset, index: int) -> Image:
    """An image with what was annotated on it."""
    height, width = data.sizes[index].tolist()
    pixels = decode(data.images / data.file_names[index], (height, width))
    scale = pixels.shape[0] / height  # a huge image is decoded smaller
    objects = np.arange(len(data.labels))[data.objects(index)]
    objects = objects[data.learnt[objects]]
    names = [data.category_names[label - 1] for label in data.labels[objects]]
    boxes, labels = scale * data.boxes[objects], data.labels[objects].tolist()
    return draw_instances(pixels, boxes, _masks(data, objects, pixels.shape[:2], scale), names, labels=labels)


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
