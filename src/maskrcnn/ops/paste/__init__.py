"""`paste`: mask probabilities inside boxes become masks of the image, as bitmaps, run lengths or outlines."""

from typing import TypeGuard

import torch
from jaxtyping import Bool, Float, Float32, Int64, Integer
from numpy import ndarray
from torch import Tensor

from maskrcnn.masks import Outline, outlines_from_runs, strings_from_counts
from maskrcnn.ops.gpu import uses_kernel
from maskrcnn.ops.operator import operator
from maskrcnn.ops.paste import cpu, reference


def paste(
    probabilities: Float[Tensor, "D M M"],
    boxes: Float[Tensor, "D 4"],
    *,
    height: int,
    width: int,
    threshold: float = 0.5,
) -> Bool[Tensor, "D {height} {width}"]:
    """The pixels whose probability, bilinear between the cells of the box's M x M grid, reaches `threshold`.

    boxes      xyxy, absolute pixels, continuous, also beyond the image; empty ones give empty masks
    threshold  above 0

    The centre of cell (i, j) lies at ((j + 0.5) / M, (i + 0.5) / M) of the box, beyond the grid are zeros, and
    pixels are sampled at their centres: `grid_sample` with zero padding and align_corners=False. No gradient.
    On the CPU each mask lies column by column in memory, the order in which COCO counts pixels.
    """
    _expect_arguments(probabilities.shape, boxes.shape, height, width, threshold)
    return _paste(probabilities.detach().float(), boxes.detach().float(), height, width, threshold)


def paste_rle(
    probabilities: Float[Tensor, "D M M"] | Float32[ndarray, "D M M"],
    boxes: Float[Tensor, "D 4"] | Float32[ndarray, "D 4"],
    *,
    height: int,
    width: int,
    threshold: float = 0.5,
) -> list[dict]:
    """The masks of `paste`, to the last pixel, as COCO's {"size": [height, width], "counts": compressed string}.

    No mask is ever held in full: memory and time follow the number of runs, not of pixels. Releases the GIL.
    On a GPU the runs are found there, and Python waits for them.
    """
    _expect_arguments(probabilities.shape, boxes.shape, height, width, threshold)
    strings = strings_from_counts(*_runs(probabilities, boxes, height, width, threshold))
    return [{"size": [height, width], "counts": string} for string in strings]


def paste_outlines(
    probabilities: Float[Tensor, "D M M"] | Float32[ndarray, "D M M"],
    boxes: Float[Tensor, "D 4"] | Float32[ndarray, "D 4"],
    *,
    height: int,
    width: int,
    threshold: float = 0.5,
) -> list[list[Outline]]:
    """The masks of `paste`, to the last pixel, as rings of points (x, y) along the edges of their pixels.

    Each mask has an outline for each piece of its body, from left to right: the ring around it, clockwise on the
    screen, then those of its holes, the other way. Pixels that touch at a corner alone are of different pieces.
    Costs as `paste_rle`, and releases the GIL as it does.
    """
    _expect_arguments(probabilities.shape, boxes.shape, height, width, threshold)
    return outlines_from_runs(*_runs(probabilities, boxes, height, width, threshold), height)


def inclusive_boxes(boxes: Float[Tensor, "D 4"], *, cells: int) -> Float[Tensor, "D 4"]:
    """The boxes that make `paste` draw M x M masks as torchvision does, M = `cells`.

    There a box is cut to whole pixels, of which the last is inside, after a cell of zeros was put around the mask and
    the box grown with it. Masks come out up to a pixel larger and shifted, which weights do not learn to mend.
    """
    scale = (cells + 2) / cells
    centre, half = 0.5 * (boxes[:, 2:] + boxes[:, :2]), 0.5 * (boxes[:, 2:] - boxes[:, :2]) * scale
    low, high = (centre - half).trunc(), (centre + half).trunc()
    cell = (high - low + 1).clamp(min=1) / (cells + 2)
    return torch.cat([low + cell, low + cell * (cells + 1)], dim=1)


@operator("paste")
def _paste(probabilities: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    return reference.paste(probabilities, boxes, height, width, threshold)


_paste.register_kernel("cpu")(cpu.paste)


@_paste.register_kernel("cuda")
def _(probabilities: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    if not uses_kernel("paste"):
        return reference.paste(probabilities, boxes, height, width, threshold)
    from maskrcnn.ops.paste import triton

    return triton.paste(probabilities, boxes, height, width, threshold)


@_paste.register_fake
def _(probabilities: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    if boxes.device.type == "cpu":
        return boxes.new_empty((boxes.shape[0], width, height), dtype=torch.bool).transpose(1, 2)
    return boxes.new_empty((boxes.shape[0], height, width), dtype=torch.bool)


def _runs(
    probabilities: Tensor | ndarray, boxes: Tensor | ndarray, height: int, width: int, threshold: float
) -> tuple[Integer[ndarray, " N"], Int64[ndarray, " D"]]:
    """COCO's run lengths of all masks, one mask behind the other, and where each mask's stop."""
    if _is_on_gpu(probabilities) and _is_on_gpu(boxes) and uses_kernel("paste"):
        from maskrcnn.ops.paste import triton

        runs = triton.paste_runs(probabilities.detach().float(), boxes.detach().float(), height, width, threshold)
        return runs[0].cpu().numpy(), runs[1].numpy()
    return cpu.paste_runs(_on_cpu(probabilities), _on_cpu(boxes), height, width, threshold)


def _is_on_gpu(values: Tensor | ndarray) -> TypeGuard[Tensor]:
    return isinstance(values, Tensor) and values.is_cuda


def _on_cpu(values: Tensor | ndarray) -> ndarray:
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else values


def _expect_arguments(
    probabilities: tuple[int, ...], boxes: tuple[int, ...], height: int, width: int, threshold: float
) -> None:
    num_boxes, *grid = probabilities
    if len(grid) != 2 or grid[0] != grid[1] or tuple(boxes) != (num_boxes, 4):
        raise ValueError(
            f"expected probabilities (D, M, M) and boxes (D, 4), received {tuple(probabilities)} and {tuple(boxes)}"
        )
    if height < 1 or width < 1:
        raise ValueError(f"expected an image of at least one pixel, received height={height}, width={width}")
    if not threshold > 0:
        raise ValueError(
            f"expected a threshold above 0, received {threshold}: all pixels beyond the boxes would reach it"
        )
