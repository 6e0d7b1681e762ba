"""Objects that were drawn on the stored pixels of a turned image, turned with it: for tools that show it upright."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import probe
from maskrcnn.data.formats.losses import Losses
from maskrcnn.masks import Rings

Points = Shaped[ndarray, "_ 2"]
TURNS: dict[int, Callable[[Points, int, int], Points]] = {
    5: lambda points, height, width: points[:, ::-1],
    6: lambda points, height, width: np.stack([height - points[:, 1], points[:, 0]], axis=1),
    7: lambda points, height, width: np.stack([height - points[:, 1], width - points[:, 0]], axis=1),
    8: lambda points, height, width: np.stack([points[:, 1], width - points[:, 0]], axis=1),
}
"""Where EXIF's orientations that exchange height and width bring points of the stored image."""
MIRRORED = {5, 7}


def upright_splits(splits: Mapping[str, Dataset], losses: Losses) -> dict[str, Dataset]:
    """All splits in the frames of upright images."""
    return {part: upright(data, losses) for part, data in splits.items()}


def upright(data: Dataset, losses: Losses) -> Dataset:
    """The data set in the frames of upright images, as `decode` shows them without a stated size.

    Objects were drawn on stored pixels where the stated size is that of the image before its EXIF rotation.
    """
    turned = _turned(data)
    if not turned:
        return data
    losses.add(
        "images have objects drawn before the EXIF rotation and are written turned, objects and all", len(turned)
    )
    sizes, boxes = data.sizes.copy(), data.boxes_xywh().copy()
    points = data.rings.points.copy()
    keypoints = None if data.keypoints is None else data.keypoints.copy()
    for image, orientation in turned.items():
        turn, (height, width), chosen = TURNS[orientation], sizes[image].tolist(), data.objects(image)
        first, last = data.first_ring[[chosen.start, chosen.stop]].tolist()
        for ring in range(first, last):
            start, stop = data.rings.first[ring : ring + 2].tolist()
            moved = turn(points[start:stop], height, width)
            points[start:stop] = moved[::-1] if orientation in MIRRORED else moved
        corners = np.stack([boxes[chosen, :2], boxes[chosen, :2] + boxes[chosen, 2:]], axis=1)
        ends = turn(corners.reshape(-1, 2), height, width).reshape(-1, 2, 2)
        boxes[chosen] = np.concatenate([ends.min(axis=1), np.abs(ends[:, 1] - ends[:, 0])], axis=1)
        if keypoints is not None:
            flat = turn(keypoints[chosen, :, :2].reshape(-1, 2), height, width)
            keypoints[chosen, :, :2] = flat.reshape(*keypoints[chosen].shape[:2], 2)
        sizes[image] = width, height
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
    rings = Rings(points, data.rings.first)
    return replace(data, sizes=sizes, boxes=corners, stated_boxes=boxes, rings=rings, keypoints=keypoints)


def _turned(data: Dataset) -> dict[int, int]:
    """Images whose stated size is that of their stored pixels and not of the upright image, with their orientation."""
    found = {}
    for image, name in enumerate(data.file_names if isinstance(data.images, Path) else ()):
        try:
            header = probe(data.images / name)
        except (OSError, ValueError):
            continue
        stated = tuple(data.sizes[image].tolist())
        if header.orientation in TURNS and stated == header.stored_size != header.size:
            found[image] = header.orientation
    return found
