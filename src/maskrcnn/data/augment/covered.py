"""What is left to see of objects that others were pasted over: on any device, with static shapes, all at once."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.ops.rasterize import rasterize
from maskrcnn.ops.visible import rasterize_hidden
from maskrcnn.structures import Targets

SMALLEST_SHARE = 0.1
"""Visible share of an object's area, at or below which nobody could say what it is: it is no longer a target."""
CELLS = 32
"""Cells along each side of a box; a closer look at the outermost ones divides each by as many again."""


class Drawn(NamedTuple):
    """Cells of a grid over each box."""

    whole: Bool[Tensor, "R n n"]
    """Where its object is, visible or not."""
    visible: Bool[Tensor, "R n n"]


def uncover(targets: Targets) -> Targets:
    """Take what is hidden off the targets of an image's own objects, the first half of the slots.

    Boxes become those of what is left to see: a side moves where all that it touched is hidden, and is then exact to
    1 / 1024 of the box, or to 1 / 64 where what is left ends in a tip. Objects of which at most `SMALLEST_SHARE` is
    left lose `valid`.
    """
    batch, own = targets.boxes.shape[0], targets.boxes.shape[1] // 2
    index = torch.arange(batch * own, device=targets.boxes.device)
    images, objects, boxes = index // own, index % own, targets.boxes[:, :own].flatten(0, 1)
    drawn = _draw(targets, boxes, images, objects)
    areas, seen = (part.sum((1, 2)) for part in drawn)
    kept = (seen == areas) | (seen > SMALLEST_SHARE * areas)
    boxes = torch.where((seen < areas)[:, None], _left_of(boxes, drawn, targets, images, objects), boxes)
    valid = targets.valid & torch.cat([kept.view(batch, own), targets.valid[:, own:]], 1)
    boxes = torch.cat([boxes.view(batch, own, 4), targets.boxes[:, own:]], 1)
    return targets._replace(boxes=boxes * valid[..., None], valid=valid)


def _draw(
    targets: Targets, boxes: Float[Tensor, "R 4"], images: Int[Tensor, " R"], objects: Int[Tensor, " R"]
) -> Drawn:
    assert targets.hiding is not None, "something is pasted"
    chosen = boxes, images, objects
    whole = rasterize(targets.edges, targets.first_edge, *chosen, size=CELLS) > 0
    hidden = rasterize_hidden(targets.edges, targets.first_edge, targets.hiding, *chosen, size=CELLS) > 0
    return Drawn(whole, whole & ~hidden)


def _left_of(
    boxes: Float[Tensor, "R 4"], drawn: Drawn, targets: Targets, images: Int[Tensor, " R"], objects: Int[Tensor, " R"]
) -> Float[Tensor, "R 4"]:
    """Boxes around what is visible; sides at which nothing of the object is hidden stay where they are."""
    coarse = [_ends(torch.stack(2 * [part.any(1), part.any(2)], 1)) for part in drawn]
    corners, cells = boxes[:, :2].repeat(1, 2), (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) / CELLS
    lows = corners + (coarse[1] - 0.5) * cells  # between the centres of the last empty cell and the first visible one
    strips = _strips(boxes, lows, lows + cells)
    closer = _draw(targets, strips.flatten(0, 1), *(index.repeat_interleave(4) for index in (images, objects)))
    fine = [_ends(_across(part.unflatten(0, (-1, 4)))) for part in closer]
    moved = (coarse[0] != coarse[1]) | (fine[0] != fine[1])
    found = torch.where(moved, lows + fine[1] * cells / CELLS, boxes)
    return torch.minimum(torch.maximum(found, corners), boxes[:, 2:].repeat(1, 2))


def _strips(
    boxes: Float[Tensor, "R 4"], lows: Float[Tensor, "R 4"], highs: Float[Tensor, "R 4"]
) -> Float[Tensor, "R 4 4"]:
    """Boxes that are each narrowed, across one side, to what lies between a low and a high."""
    left, top, right, bottom = boxes.unbind(1)
    columns = (torch.stack([lows[:, k], top, highs[:, k], bottom], 1) for k in (0, 2))
    rows = (torch.stack([left, lows[:, k], right, highs[:, k]], 1) for k in (1, 3))
    return torch.stack([strip for pair in zip(columns, rows, strict=True) for strip in pair], 1)


def _across(cells: Bool[Tensor, "R 4 n n"]) -> Bool[Tensor, "R 4 n"]:
    """Which lines of each strip, along the side that it follows, hold anything."""
    return torch.stack([strip.any(1 + side % 2) for side, strip in enumerate(cells.unbind(1))], 1)


def _ends(lines: Bool[Tensor, "R 4 n"]) -> Int[Tensor, "R 4"]:
    """First lines that are not empty, for left and top, and those behind the last, for right and bottom.

    Where all are empty, the first is behind the last line, the last before the first.
    """
    before, after = ((part.cumsum(2) == 0).sum(2) for part in (lines[:, :2], lines[:, 2:].flip(2)))
    return torch.cat([before, lines.shape[2] - after], 1)
