"""`rasterize`: annotated outlines become mask targets inside boxes, all RoIs at once."""

from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.ops.gpu import uses_kernel
from maskrcnn.ops.operator import operator
from maskrcnn.ops.rasterize import cpu, reference


def rasterize(
    edges: Float[Tensor, "B E 4"],
    first_edge: Int[Tensor, "B G_plus_1"],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, " R"],
    objects: Int[Tensor, " R"],
    *,
    size: int,
) -> Float[Tensor, "R {size} {size}"]:
    """1 where the centre of a cell of the size x size grid over a box lies inside the box's object, otherwise 0.

    edges       directed outline edges (x1, y1, x2, y2), absolute pixels; padding is all zeros
    first_edge  object g of image b owns edges[b, first_edge[b, g] : first_edge[b, g + 1]]
    boxes       xyxy, absolute pixels, continuous; below 1e-4 pixels wide or high they give zeros
    images, objects  which image and which of its objects belong to each box

    Inside is where the winding number is not zero. A centre exactly on an outline belongs to the side that lies
    right of or below it, so neighbours share no cell and leave none. Targets carry no gradient.
    Raises ValueError for indices beyond their tensors, on the CPU alone: elsewhere looking would stall the device.
    """
    if size < 1:
        raise ValueError(f"expected at least one cell, received size={size}")
    return _rasterize(edges.detach().float(), first_edge, boxes.detach().float(), images, objects, size)


@operator("rasterize")
def _rasterize(edges: Tensor, first_edge: Tensor, boxes: Tensor, images: Tensor, objects: Tensor, size: int) -> Tensor:
    return reference.rasterize(edges, first_edge, boxes, images, objects, size)


_rasterize.register_kernel("cpu")(cpu.rasterize)


@_rasterize.register_kernel("cuda")
def _(edges: Tensor, first_edge: Tensor, boxes: Tensor, images: Tensor, objects: Tensor, size: int) -> Tensor:
    if not uses_kernel("rasterize"):
        return reference.rasterize(edges, first_edge, boxes, images, objects, size)
    from maskrcnn.ops.rasterize import triton

    return triton.rasterize(edges, first_edge, boxes, images, objects, size)


@_rasterize.register_fake
def _(edges: Tensor, first_edge: Tensor, boxes: Tensor, images: Tensor, objects: Tensor, size: int) -> Tensor:
    return boxes.new_empty(boxes.shape[0], size, size)
