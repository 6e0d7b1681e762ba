"""`rasterize` in plain PyTorch: the definition, on any device, with static shapes. Memory grows with R * E."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

SMALLEST_SIDE = 1e-4
"""Pixels: narrower boxes count as empty, so that grid coordinates stay finite."""


def rasterize(
    edges: Float[Tensor, "B E 4"],
    first_edge: Int[Tensor, "B G_plus_1"],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, " R"],
    objects: Int[Tensor, " R"],
    size: int,
) -> Float[Tensor, "R {size} {size}"]:
    """See `maskrcnn.ops.rasterize.rasterize`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    not_empty = (sides >= SMALLEST_SIDE).all(dim=1) & torch.isfinite(boxes).all(dim=1)
    sides = torch.where(not_empty[:, None], sides, 1.0)
    corner = torch.where(not_empty[:, None], boxes[:, :2], 0.0)
    points = edges[images].unflatten(2, (2, 2))
    (u1, v1), (u2, v2) = ((points - corner[:, None, None]) * (sides.new_full((), size) / sides)[:, None, None]).permute(
        2, 3, 0, 1
    )

    index = torch.arange(edges.shape[1], device=edges.device)
    start, stop = first_edge[images, objects], first_edge[images, objects + 1]
    owned = (index >= start[:, None]) & (index < stop[:, None]) & not_empty[:, None]
    direction = torch.where(owned, (v2 > v1).int() - (v2 < v1).int(), 0)
    slope = (u2 - u1) / torch.where(v1 == v2, 1.0, v2 - v1)

    rows = []
    for row in range(size):
        centre = row + 0.5
        crosses = (v1 <= centre) != (v2 <= centre)
        crossing = torch.where(crosses, u1 + (centre - v1) * slope, 0.0)
        column = torch.ceil(crossing - 0.5).clamp(0, size).long()
        steps = torch.zeros(len(boxes), size + 1, dtype=torch.int32, device=boxes.device)
        rows.append(steps.scatter_add(1, column, torch.where(crosses, direction, 0)))
    winding = torch.stack(rows, dim=1).cumsum(dim=2)[..., :size]
    return (winding != 0).to(boxes.dtype)
