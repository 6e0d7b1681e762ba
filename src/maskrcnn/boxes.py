"""Box functions: pure, batched, shape in, shape out. Boxes are xyxy in continuous pixels.

Constants enter as Python numbers: a tensor made of them would be copied to the device, and waited for.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Compute areas in square pixels; boxes with negative width or height count as empty."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def intersection(a: Float[Tensor, "*b n 4"], b: Float[Tensor, "*b m 4"]) -> Float[Tensor, "*b n m"]:
    """Compute the intersection area of every box of `a` with every box of `b`."""
    # Per coordinate: no (n, m, 2) temporaries, which cost more than the arithmetic.
    width = torch.minimum(a[..., :, None, 2], b[..., None, :, 2]) - torch.maximum(
        a[..., :, None, 0], b[..., None, :, 0]
    )
    height = torch.minimum(a[..., :, None, 3], b[..., None, :, 3]) - torch.maximum(
        a[..., :, None, 1], b[..., None, :, 1]
    )
    return width.clamp(min=0) * height.clamp(min=0)


def iou(a: Float[Tensor, "*b n 4"], b: Float[Tensor, "*b m 4"]) -> Float[Tensor, "*b n m"]:
    """Intersection over union of each box of `a` with each of `b`; 0 where one is empty."""
    shared = intersection(a, b)
    return shared / (area(a)[..., None] + area(b)[..., None, :] - shared).clamp(min=1e-9)


def clip(boxes: Float[Tensor, "B n 4"], sizes: Float[Tensor, "B 2"]) -> Float[Tensor, "B n 4"]:
    """Clip each image's boxes to its (height, width)."""
    limit = sizes.flip(1).repeat(1, 2)  # width, height, width, height
    return torch.minimum(boxes.clamp(min=0), limit[:, None])


def take(boxes: Float[Tensor, "B N 4"], index: Int[Tensor, "B n"]) -> Float[Tensor, "B n 4"]:
    """Gather each image's boxes by its own index."""
    return boxes.gather(1, index[:, :, None].expand(-1, -1, 4))


def not_empty(boxes: Float[Tensor, "*n 4"], smallest: float = 0.0) -> Bool[Tensor, "*n"]:
    """Tell which boxes are wider and higher than `smallest` pixels."""
    return (boxes[..., 2] - boxes[..., 0] > smallest) & (boxes[..., 3] - boxes[..., 1] > smallest)


def encode(
    boxes: Float[Tensor, "*n 4"], reference: Float[Tensor, "*n 4"], weights: tuple[float, float, float, float]
) -> Float[Tensor, "*n 4"]:
    """Encode each box as deltas (dx, dy, dw, dh) from its reference box. Source: Girshick 2014, appendix C.

    Empty boxes give finite deltas that nobody reads.
    """
    width, height = _sides(reference)
    target_width, target_height = _sides(boxes)
    dx = (_centre(boxes, 0) - _centre(reference, 0)) / width
    dy = (_centre(boxes, 1) - _centre(reference, 1)) / height
    deltas = dx, dy, torch.log(target_width / width), torch.log(target_height / height)
    return torch.stack([delta * weight for delta, weight in zip(deltas, weights, strict=True)], dim=-1)


def decode(
    deltas: Float[Tensor, "*n 4"],
    reference: Float[Tensor, "*n 4"],
    weights: tuple[float, float, float, float],
    max_log_scale: float,
) -> Float[Tensor, "*n 4"]:
    """Invert `encode`, with the growth of a side capped at `exp(max_log_scale)`."""
    width, height = (reference[..., 2] - reference[..., 0]), (reference[..., 3] - reference[..., 1])
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.unbind(-1), weights, strict=True))
    x, y = _centre(reference, 0) + dx * width, _centre(reference, 1) + dy * height
    half_width = 0.5 * width * torch.exp(dw.clamp(max=max_log_scale))
    half_height = 0.5 * height * torch.exp(dh.clamp(max=max_log_scale))
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)


def _centre(boxes: Tensor, axis: int) -> Tensor:
    return 0.5 * (boxes[..., axis] + boxes[..., axis + 2])


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    smallest = 1e-4  # keeps log and division finite in padded slots
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=smallest), (boxes[..., 3] - boxes[..., 1]).clamp(min=smallest)
