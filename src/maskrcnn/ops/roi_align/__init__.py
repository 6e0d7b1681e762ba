"""RoIAlign over a whole pyramid: `reference.py` defines it, `cpu.py` and `triton.py` are fast."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.ops.gpu import uses_kernel
from maskrcnn.ops.operator import operator
from maskrcnn.ops.roi_align import cpu, reference
from maskrcnn.ops.roi_align.reference import roi_levels

__all__ = ["roi_align", "roi_levels"]

GPU_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def roi_align(
    pyramid: list[Float[Tensor, "B C _ _"]],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, "R"],
    *,
    strides: Sequence[int],
    output_size: int,
    samples: int = 2,
    half_pixel: bool = True,
    canonical_size: int = 224,
    canonical_level: int = 4,
) -> Float[Tensor, "R C output_size output_size"]:
    """Average bilinear samples of each box on the level that suits its size.

    boxes      xyxy, absolute pixels, continuous; empty or NaN ones give finite values nobody reads
    images     the image of the batch that each box lies in, int64
    strides    pixels per cell, finest level first, each twice the one before
    samples    points per output bin and axis; 0 takes as many as a bin of each box has cells, rounded up, and no more
               than as if the box spanned its level
    half_pixel pixel (x, y) lies at (x, y) / stride - 0.5 in units of cells; otherwise at (x, y) / stride, and boxes
               have at least one cell: half a cell off, as the first RoIAlign and weights that were trained with it
    canonical  a box of canonical_size pixels belongs to the level of stride 2**canonical_level, see `roi_levels`

    Samples more than one cell outside a level are 0, nearer ones take its border. Computed in float32 (float64 for
    float64 features), returned in the type of the features and in channels-last memory, which is also what the pyramid
    had best come in.
    Differentiable once, in `pyramid`; boxes are constants. No boxes gives an empty result with gradient. On a GPU the
    gradient has the same bits in every run only under `torch.use_deterministic_algorithms(True)`.
    Raises ValueError when strides and pyramid disagree, and on a CPU when `images` leaves the batch.
    Source: He et al. 2017, section 3; level rule: Lin et al. 2017, eq. 1.
    """
    if len(strides) != len(pyramid) or not pyramid:
        raise ValueError(f"roi_align: expected one stride for each level, received {len(strides)} for {len(pyramid)}")
    if strides[0].bit_count() != 1 or any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ValueError(f"roi_align: strides must be powers of two, each twice the one before, received {strides}")
    if boxes.shape != (len(images), 4):
        raise ValueError(f"roi_align: expected boxes ({len(images)}, 4) as `images` has, received {tuple(boxes.shape)}")
    boxes = boxes.detach().to(torch.promote_types(pyramid[0].dtype, torch.float32))
    settings = (list(strides), output_size, samples, half_pixel, canonical_size, canonical_level)
    if _has_kernel(boxes.device.type, pyramid[0].dtype):
        return torch.ops.maskrcnn.roi_align(pyramid, boxes, images, *settings)
    return reference.roi_align(pyramid, boxes, images, *settings)


def _has_kernel(device: str, dtype: torch.dtype) -> bool:
    if device == "cuda":
        return dtype in GPU_TYPES and uses_kernel("roi_align")
    return device == "cpu"


@operator("roi_align", "cpu")
def _forward(
    pyramid: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    strides: Sequence[int],
    output_size: int,
    samples: int,
    half_pixel: bool,
    canonical_size: int,
    canonical_level: int,
) -> Tensor:
    return cpu.forward(
        pyramid, boxes, images, strides, output_size, samples, half_pixel, canonical_size, canonical_level
    )


@_forward.register_kernel("cuda")
def _forward_on_gpu(*arguments: Any) -> Tensor:
    from maskrcnn.ops.roi_align import triton

    return triton.forward(*arguments)


@_forward.register_fake
def _(pyramid, boxes, images, strides, output_size, samples, half_pixel, canonical_size, canonical_level):  # type: ignore[no-untyped-def]
    shape = (boxes.shape[0], pyramid[0].shape[1], output_size, output_size)
    return torch.empty(shape, dtype=pyramid[0].dtype, device=pyramid[0].device, memory_format=torch.channels_last)


@operator("roi_align_backward", "cpu")
def _backward(
    grad: Tensor,
    boxes: Tensor,
    images: Tensor,
    num_images: int,
    sizes: Sequence[int],
    strides: Sequence[int],
    samples: int,
    half_pixel: bool,
    canonical_size: int,
    canonical_level: int,
) -> list[Tensor]:
    return cpu.backward(
        grad, boxes, images, num_images, sizes, strides, samples, half_pixel, canonical_size, canonical_level
    )


@_backward.register_kernel("cuda")
def _backward_on_gpu(*arguments: Any) -> list[Tensor]:
    from maskrcnn.ops.roi_align import triton

    if torch.are_deterministic_algorithms_enabled():
        return triton.backward_deterministic(*arguments)
    return triton.backward(*arguments)


@_backward.register_fake
def _(grad, boxes, images, num_images, sizes, strides, samples, half_pixel, canonical_size, canonical_level):  # type: ignore[no-untyped-def]
    shapes = [(num_images, grad.shape[1], height, width) for height, width in zip(sizes[::2], sizes[1::2], strict=True)]
    return [
        torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last) for shape in shapes
    ]


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    pyramid, boxes, images, strides, _, samples, half_pixel, canonical_size, canonical_level = inputs
    ctx.save_for_backward(boxes, images)
    sizes = [side for level in pyramid for side in level.shape[2:]]
    ctx.settings = (pyramid[0].shape[0], sizes, strides, samples, half_pixel, canonical_size, canonical_level)


def _differentiate(ctx, grad):  # type: ignore[no-untyped-def]
    gradients = torch.ops.maskrcnn.roi_align_backward(grad, *ctx.saved_tensors, *ctx.settings)
    return gradients, None, None, None, None, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_save)
