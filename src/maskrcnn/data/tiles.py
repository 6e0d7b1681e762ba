"""Images cut into tiles: each tile is an image of its own, with what it shows of the objects.

A tile has the frame, the size and the annotations of an image, and knows which part of its file it is. So whatever
is done to images, turning them and pasting objects among it, is done to tiles, and what lies beyond a tile is padding.
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from maskrcnn.config import Data
from maskrcnn.data.buckets import Samples
from maskrcnn.data.dataset import Dataset, Parts, members
from maskrcnn.data.keys import image_keys
from maskrcnn.masks import Rings, clip_rings, clipped

LEAST_SEEN = 0.25
"""Share of its area that a tile must show of an object to teach it; less is hardly told from its surroundings."""
LARGE_PART = 0.125
"""Share of a tile from which on a part teaches its object however small a share of it that is: some exceed a tile."""


def cut_images(sizes: Int64[np.ndarray, "n 2"], tile: int, overlap: float) -> Samples:
    """Tiles that cover images, row by row, those of each image together.

    sizes     (height, width)
    overlap   share of `tile` by which neighbours overlap, at least; they are spread evenly
    An image that is smaller than a tile gives smaller ones.
    """
    found = [_grid(height, width, tile, overlap) for height, width in sizes.tolist()]
    images = np.repeat(np.arange(len(sizes)), [len(windows) for windows in found])
    return Samples(images, np.concatenate(found) if found else np.zeros((0, 4), np.int64))


def with_few_empty(samples: Samples, data: Dataset, settings: Data, *, seed: int, epoch: int) -> Samples:
    """All samples that have objects, and of tiles without any as many as the settings want, others in each epoch.

    Every epoch has the same number of samples; whole images are all kept.
    """
    if not settings.tile:
        return samples
    is_empty = (np.diff(data.first_object) == 0)[samples.images]
    num_kept = min(int(is_empty.sum()), math.ceil(settings.tile_empty * np.count_nonzero(~is_empty)))
    chances = np.where(is_empty, image_keys(seed, epoch, len(is_empty)), -1)
    kept = np.argsort(chances, kind="stable")[: np.count_nonzero(~is_empty) + num_kept]
    return samples.take(np.sort(kept))


def _grid(height: int, width: int, tile: int, overlap: float) -> Int64[np.ndarray, "t 4"]:
    y, x = np.meshgrid(starts(height, tile, overlap), starts(width, tile, overlap), indexing="ij")
    corners = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.concatenate([corners, np.minimum(corners + tile, (width, height))], axis=1)


def starts(length: int, tile: int, overlap: float) -> Int64[np.ndarray, " t"]:
    """Where tiles begin along a side of an image.

    >>> starts(1000, 400, 0.2).tolist(), starts(300, 400, 0.2).tolist()
    ([0, 300, 600], [0])
    """
    if length <= tile:
        return np.zeros(1, np.int64)
    number = 1 + int(np.ceil((length - tile) / max(1.0, tile * (1 - overlap))))
    return np.linspace(0, length - tile, number).round().astype(np.int64)


def cut_data(data: Dataset, settings: Data) -> Dataset:
    """The tiles of a data set's images, as images; the data set itself where the settings want none.

    An object is in every tile that shows some of it, with the box around what is seen. Where that is less than
    `LEAST_SEEN` of it, and less than `LARGE_PART` of the tile, it is a crowd region there: neither learnt nor
    background.
    """
    if not settings.tile:
        return data
    tiles = cut_images(data.sizes, settings.tile, settings.tile_overlap)
    owners, objects = _shown(data, tiles)
    boxes, areas, whole_areas = _seen(data, tiles.windows[owners].astype(np.float32), objects)
    seen = areas > 0
    owners, objects, boxes, areas = owners[seen], objects[seen], boxes[seen], areas[seen]
    is_part = (areas < LEAST_SEEN * whole_areas[seen]) & (areas < LARGE_PART * tiles.sizes[owners].prod(axis=1))
    corners = tiles.windows[owners, :2]
    rings, first_ring = _cut_rings(data, objects, tiles.windows[owners])
    return replace(
        data,
        image_ids=data.image_ids[tiles.images],
        file_names=[data.file_names[image] for image in tiles.images.tolist()],
        sizes=tiles.sizes,
        parts=Parts(tiles.windows, data.sizes[tiles.images]),
        first_object=np.searchsorted(owners, np.arange(len(tiles.images) + 1)).astype(np.int64),
        annotation_ids=data.annotation_ids[objects],
        labels=data.labels[objects],
        boxes=boxes - np.tile(corners, 2).astype(np.float32),
        areas=areas,
        crowd=data.crowd[objects] | is_part,
        flags=data.flags[objects],
        rings=rings,
        first_ring=first_ring,
        stated_boxes=None,
        keypoints=None,
        attributes=None,
        stated_ids=None if data.stated_ids is None else [data.stated_ids[image] for image in tiles.images.tolist()],
    )


def _shown(data: Dataset, tiles: Samples) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Tile and object of each pair whose box reaches into the tile, by tile, then by object."""
    first_tile = np.searchsorted(tiles.images, np.arange(len(data.image_ids) + 1))
    owners, objects = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for image in np.flatnonzero(np.diff(data.first_object)).tolist():
        mine = data.objects(image)
        boxes, learnt = data.boxes[mine], data.learnt[mine]
        for tile in range(first_tile[image], first_tile[image + 1]):
            inside = np.flatnonzero(_meet(boxes, tiles.windows[tile]) & learnt)
            owners.append(np.full(len(inside), tile))
            objects.append(mine.start + inside)
    return np.concatenate(owners), np.concatenate(objects)


def _meet(boxes: Float32[np.ndarray, "n 4"], window: Int64[np.ndarray, "4"]) -> Bool[np.ndarray, " n"]:
    return (np.minimum(boxes[:, 2:], window[2:]) > np.maximum(boxes[:, :2], window[:2])).all(axis=1)


def _seen(
    data: Dataset, windows: Float32[np.ndarray, "m 4"], objects: Int64[np.ndarray, " m"]
) -> tuple[Float32[np.ndarray, "m 4"], Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Box and area of what a window shows of each object, and the area of all of it.

    Where it shows the whole box, that is the annotation's; an outline without area is taken for its box.
    """
    boxes = data.boxes[objects]
    rings = np.stack([data.first_ring[objects], data.first_ring[objects + 1]], axis=1)
    around, areas = clipped(data.rings, rings, windows)
    _, whole_areas = clipped(data.rings, rings, np.full_like(windows, np.inf) * np.array([-1, -1, 1, 1], np.float32))
    cut = np.concatenate([np.maximum(boxes[:, :2], windows[:, :2]), np.minimum(boxes[:, 2:], windows[:, 2:])], axis=1)
    is_whole, is_flat = (cut == boxes).all(axis=1), whole_areas == 0
    around = np.where((is_whole | is_flat)[:, None], cut, around)
    areas = np.where(is_flat, (cut[:, 2:] - cut[:, :2]).prod(axis=1), np.where(is_whole, whole_areas, areas))
    return around, areas, np.where(is_flat, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), whole_areas)


def _cut_rings(
    data: Dataset, objects: Int64[np.ndarray, " m"], windows: Int64[np.ndarray, "m 4"]
) -> tuple[Rings, Int64[np.ndarray, " m+1"]]:
    """What windows show of the outlines of some objects, counted from the windows' corners."""
    chosen, first_ring = members(data.first_ring, objects)
    of_rings = np.repeat(windows, np.diff(first_ring), axis=0)
    rings, is_left = clip_rings(data.rings, chosen, of_rings.astype(np.float32))
    corners = np.repeat(of_rings[is_left, :2], np.diff(rings.first), axis=0)
    num_left = np.concatenate([[0], np.cumsum(is_left)])
    return Rings(rings.points - corners.astype(np.float32), rings.first), num_left[first_ring]
