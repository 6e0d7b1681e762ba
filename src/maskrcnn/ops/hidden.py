"""`rasterize_hidden`: what is pasted above objects, drawn on the same cells as they."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.ops.rasterize import rasterize


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
