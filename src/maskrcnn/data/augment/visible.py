"""Boxes of what a view shows of outlines: on any device, with static shapes, for all objects at once."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def visible_boxes(
    edges: Float[Tensor, "B E 4"], first_edge: Int[Tensor, "B G_plus_1"], sizes: Float[Tensor, "B 2"]
) -> Float[Tensor, "B G 4"]:
    """The tightest boxes, xyxy, around what of each object lies in [0, width] x [0, height]; zeros where nothing does.

    edges       directed outline edges (x1, y1, x2, y2); inside is where the winding number is not zero
    first_edge  object g owns edges[first_edge[g] : first_edge[g + 1]]
    sizes       (height, width)
    An outline cut by a rectangle reaches as far as its edges within the rectangle, and the corners of the rectangle
    that it surrounds: no polygon need be put together.
    """
    limits = sizes.flip(1)[:, None]
    ends, seen = _clipped(edges, limits)
    owners = owners_of(first_edge, edges.shape[1])
    low = _reduced(torch.where(seen, ends.amin(2), torch.inf), owners, first_edge, "amin")
    high = _reduced(torch.where(seen, ends.amax(2), -torch.inf), owners, first_edge, "amax")
    (width, height), zero = limits.unbind(2), torch.zeros_like(limits[..., 0])
    corners = torch.stack([torch.cat([zero, width, width, zero], 1), torch.cat([zero, zero, height, height], 1)], 2)
    inside = _surrounded(corners, edges, owners, first_edge)[..., None]
    low = torch.minimum(low, torch.where(inside, corners[:, None], torch.inf).amin(2))
    high = torch.maximum(high, torch.where(inside, corners[:, None], -torch.inf).amax(2))
    boxes = torch.cat([low, high], 2)
    return torch.where((low <= high).all(2, keepdim=True), boxes, 0)


def owners_of(first_edge: Int[Tensor, "B G_plus_1"], num_edges: int) -> Int[Tensor, "B E"]:
    """The object of each edge; padding belongs to one behind the last."""
    index = torch.arange(num_edges, device=first_edge.device).expand(len(first_edge), -1).contiguous()
    return torch.searchsorted(first_edge[:, 1:].contiguous(), index, right=True)


def _clipped(
    edges: Float[Tensor, "B E 4"], limits: Float[Tensor, "B 1 2"]
) -> tuple[Float[Tensor, "B E 2 2"], Bool[Tensor, "B E 1"]]:
    """Both ends of the part of each edge within the rectangle, and whether there is any. Source: Liang, Barsky 1984."""
    begin, end = edges[..., :2], edges[..., 2:]
    along = end - begin
    level = along == 0
    bounds = torch.stack([-begin, limits - begin]) / torch.where(level, 1, along)
    between = (begin >= 0) & (begin <= limits)
    enters = torch.where(level, torch.where(between, -torch.inf, torch.inf), bounds.amin(0)).amax(2, keepdim=True)
    leaves = torch.where(level, torch.where(between, torch.inf, -torch.inf), bounds.amax(0)).amin(2, keepdim=True)
    enters, leaves = enters.clamp(min=0), leaves.clamp(max=1)
    seen = enters <= leaves
    ends = torch.stack([begin + enters * along, end - (1 - leaves) * along], 2)
    return torch.minimum(torch.where(seen[..., None], ends, 0).clamp(min=0), limits[:, None]), seen


def _reduced(
    values: Float[Tensor, "B E n"], owners: Int[Tensor, "B E"], first_edge: Int[Tensor, "B G_plus_1"], reduction: str
) -> Float[Tensor, "B G n"]:
    """The least or the greatest values of each object's edges."""
    batch, num_firsts = first_edge.shape
    nothing = torch.inf if reduction == "amin" else -torch.inf
    found = values.new_full((batch, num_firsts, values.shape[2]), nothing)
    return found.scatter_reduce(1, owners[..., None].expand_as(values), values, reduction)[:, :-1]


def _surrounded(
    points: Float[Tensor, "B n 2"],
    edges: Float[Tensor, "B E 4"],
    owners: Int[Tensor, "B E"],
    first_edge: Int[Tensor, "B G_plus_1"],
) -> Bool[Tensor, "B G n"]:
    """Whether each point lies inside each object: the edges that cross the row left of it do not cancel."""
    x, y = points[:, None].unbind(3)
    x1, y1, x2, y2 = edges[..., None].unbind(2)
    crosses = (y1 <= y) != (y2 <= y)
    crossing = x1 + (y - y1) * ((x2 - x1) / torch.where(y1 == y2, 1, y2 - y1))
    steps = torch.where(crosses & (crossing <= x), torch.where(y2 > y1, 1, -1), 0)
    winding = steps.new_zeros(*first_edge.shape, points.shape[1])
    return winding.scatter_add(1, owners[..., None].expand_as(steps), steps)[:, :-1] != 0
