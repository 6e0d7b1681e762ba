"""Targets of masks: what can be seen of objects, and what is pasted above them, drawn on the same cells."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.ops.rasterize import rasterize
from maskrcnn.structures import Targets


def rasterize_hidden(
    edges: Float[Tensor, "B E 4"],
    first_edge: Int[Tensor, "B G_plus_1"],
    hiding: Int[Tensor, "B 2"],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, " R"],
    objects: Int[Tensor, " R"],
    *,
    size: int,
) -> Float[Tensor, "R {size} {size}"]:
    """1 where something that is pasted above the box's object covers a cell's centre, otherwise 0; see `rasterize`.

    hiding   outlines edges[b, hiding[b, 0] : hiding[b, 1]] of image b unite, above all objects that stand before them
    """
    runs = torch.cat([hiding, hiding[:, 1:]], 1)  # the second holds no edge: nothing lies above what is pasted
    is_pasted = first_edge[images, objects] >= hiding[images, 0]
    return rasterize(edges, runs, boxes, images, is_pasted.long(), size=size)


def draw_targets(
    targets: Targets, boxes: Float[Tensor, "R 4"], images: Int[Tensor, "R"], objects: Int[Tensor, "R"], size: int
) -> Float[Tensor, "R {size} {size}"]:
    """Draw what can be seen of each box's object: 1 or 0 in each of size x size cells over the box."""
    chosen = boxes, images, objects
    masks = rasterize(targets.edges, targets.first_edge, *chosen, size=size)
    if targets.hiding is None:
        return masks
    return masks * (1 - rasterize_hidden(targets.edges, targets.first_edge, targets.hiding, *chosen, size=size))
