"""Simple copy-paste (Ghiasi et al. 2021): objects of another image of the batch, pasted where they are there.

Images 0 and 1 of a batch exchange objects, 2 and 3, and so on: with micro-batches of an even number of images neither
their number nor that of processes changes anything. What is pasted hides what lies below it, in pixels and in targets.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.boxes import clip, not_empty
from maskrcnn.data.augment.covered import uncover
from maskrcnn.data.augment.pixels import gaussian, smooth
from maskrcnn.data.augment.visible import owners_of, visible_boxes
from maskrcnn.data.transforms import SMALLEST_SIDE
from maskrcnn.keys import uniform
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.structures import ImageBatch, MicroBatch, Targets

STREAM = 18
"""Random numbers that choose the objects."""
TILE = 128
"""Pixels along the sides of the squares in which outlines are drawn, each by a program of its own."""


def paste(batch: MicroBatch, probability: float, blend: float = 0.0) -> MicroBatch:
    """Paste objects of each image's partner onto it.

    probability   of each object, crowd regions aside
    blend         standard deviation in pixels of a Gaussian that softens the edges of what is pasted; 0: they are sharp
    Targets have twice the slots: pasted objects follow the image's own, of which those that are nearly hidden lose
    `valid`, and boxes of the others surround what is left to see. No pixel beyond the smaller of two images changes.
    Raises ValueError for an odd number of images.
    """
    refuse_odd(len(batch.keys))
    images, targets = batch.images, batch.targets
    order = torch.arange(len(batch.keys), device=batch.keys.device) ^ 1
    common = torch.minimum(images.sizes, images.sizes[order])
    theirs = Targets(*(column[order] for column in targets if column is not None))
    pasted = cut(choose(theirs, common, batch.keys, probability), common)
    cover = cover_of(pasted, common, images.pixels.shape[2:])
    pixels = paint(images.pixels, images.pixels[order], cover, common, blend)
    return MicroBatch(ImageBatch(pixels, images.sizes), uncover(join(targets, pasted)), batch.keys)


def refuse_odd(num_images: int) -> None:
    """Raise ValueError where the images of a micro-batch are no pairs."""
    if num_images % 2:
        raise ValueError(
            f"copy-paste takes the images of a micro-batch in pairs, but it has {num_images}; choose train.batch and "
            "train.micro_batch such that each process has an even number, or set data.augment.copy_paste=0"
        )


def choose(targets: Targets, sizes: Float[Tensor, "B 2"], keys: Int[Tensor, " B"], probability: float) -> Targets:
    """Leave each object valid with a probability, those within (height, width) alone; zero the edges of all others."""
    boxes = clip(targets.boxes, sizes)
    is_cut = (boxes != targets.boxes).any(2, keepdim=True)
    boxes = torch.where(is_cut, visible_boxes(targets.edges, targets.first_edge, sizes), boxes)
    chosen = uniform(keys, boxes.shape[1], stream=STREAM) < probability
    has_outline = targets.first_edge.diff(dim=1) > 0
    chosen = chosen & targets.valid & ~targets.crowd & has_outline & not_empty(boxes, SMALLEST_SIDE)
    owners = owners_of(targets.first_edge, targets.edges.shape[1]).clamp(max=boxes.shape[1] - 1)
    edges = targets.edges * chosen.gather(1, owners)[..., None]
    return targets._replace(boxes=boxes * chosen[..., None], crowd=targets.crowd & chosen, valid=chosen, edges=edges)


def cut(targets: Targets, sizes: Float[Tensor, "B 2"]) -> Targets:
    """Cut outlines off at the right and bottom of (height, width); each edge becomes two, one of which may be a point.

    Rows below are left out. What lies to the right moves onto the border, where it closes the outline; beyond 0, where
    no pixel is, outlines stay as they are.
    """
    height, width = (side[:, None] for side in sizes.unbind(1))
    x1, y1, x2, y2 = targets.edges.unbind(2)
    x = x1 + (height - y1) * (x2 - x1) / torch.where(y1 == y2, 1, y2 - y1)
    below = y1 > height, y2 > height
    x1, x2 = torch.where(below[0], x, x1), torch.where(below[1], x, x2)
    y1, y2 = torch.minimum(y1, height), torch.minimum(y2, height)
    y = y1 + (width - x1) * (y2 - y1) / torch.where(x1 == x2, 1, x2 - x1)
    right = x1 > width, x2 > width
    inside = (
        torch.minimum(x1, width),
        torch.where(right[0], y, y1),
        torch.minimum(x2, width),
        torch.where(right[1], y, y2),
    )
    closing = width.expand_as(x1), torch.where(right[0], y1, y), width.expand_as(x1), torch.where(right[1], y2, y)
    edges = torch.stack([torch.stack(inside, 2), torch.stack(closing, 2)], 2).flatten(1, 2)
    return targets._replace(edges=edges, first_edge=2 * targets.first_edge)


def cover_of(targets: Targets, sizes: Float[Tensor, "B 2"], bucket: Sequence[int]) -> Bool[Tensor, "B 1 H W"]:
    """Draw all outlines of each image, united, on pixels within its (height, width)."""
    rows, columns = (-(-side // TILE) for side in bucket)
    batch, device = len(sizes), sizes.device
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    tiles = TILE * torch.stack([x, y, x + 1, y + 1], 2).flatten(0, 1).float().repeat(batch, 1)
    images = torch.arange(batch, device=device).repeat_interleave(rows * columns)
    drawn = rasterize(targets.edges, _ends(targets.first_edge), tiles, images, torch.zeros_like(images), size=TILE)
    drawn = drawn.view(batch, rows, columns, TILE, TILE).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return (drawn[:, None, : bucket[0], : bucket[1]] > 0) & within(sizes, bucket)


def within(sizes: Float[Tensor, "B 2"], bucket: Sequence[int]) -> Bool[Tensor, "B 1 H W"]:
    """Tell which pixels of a bucket lie within each (height, width)."""
    rows, columns = (
        torch.arange(side, device=sizes.device) < size[:, None]
        for side, size in zip(bucket, sizes.unbind(1), strict=True)
    )
    return (rows[:, :, None] & columns[:, None])[:, None]


def paint(
    below: Float[Tensor, "B C H W"],
    above: Float[Tensor, "B C H W"],
    cover: Bool[Tensor, "B 1 H W"],
    sizes: Float[Tensor, "B 2"],
    blend: float,
) -> Float[Tensor, "B C H W"]:
    """Show the pixels above where they cover; with `blend` the border between both is soft, within (height, width)."""
    if not blend:
        return torch.where(cover, above, below)
    opacity = smooth(cover.to(below.dtype), gaussian(sizes.new_full((len(sizes),), blend), blend))
    return torch.lerp(below, above, opacity * within(sizes, below.shape[2:]))


def join(targets: Targets, pasted: Targets) -> Targets:
    """Put pasted objects behind an image's own ones; their edges together hide those."""
    behind = targets.edges.shape[1] + pasted.first_edge
    boxes, labels, crowd, valid, edges = (
        torch.cat([own, other], 1) for own, other in zip(targets[:5], pasted[:5], strict=True)
    )
    first_edge = torch.cat([targets.first_edge[:, :-1], behind], 1)
    return Targets(boxes, labels, crowd, valid, edges, first_edge, _ends(behind))


def _ends(first_edge: Int[Tensor, "B n"]) -> Int[Tensor, "B 2"]:
    """Where the edges of all objects begin and end; a list of two indices would be copied to the device."""
    return first_edge[:, :: first_edge.shape[1] - 1]
