"""Small fixed inputs of every operator, each beside its definition: what proves, warms and guards kernels.

`compute(example, example.kernel, device)` runs an operator forward and, where it is differentiable, backward, and
`compute(example, example.definition, device)` the plain PyTorch that defines it. Sizes are the smallest that take every
branch of a kernel that matters: several blocks, ends of blocks, all levels, boxes beyond the image, empty slots. The
numbers lie off every threshold by more than rounding, so that choices have one right answer on every device.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

from maskrcnn.masks import bitmap_from_counts, counts_from_string
from maskrcnn.ops.conv1x1 import conv1x1
from maskrcnn.ops.conv1x1.reference import conv1x1 as conv1x1_definition
from maskrcnn.ops.conv3x3 import conv3x3
from maskrcnn.ops.conv3x3.reference import conv3x3 as conv3x3_definition
from maskrcnn.ops.depthwise import depthwise
from maskrcnn.ops.depthwise.reference import depthwise as depthwise_definition
from maskrcnn.ops.group_norm import group_norm
from maskrcnn.ops.group_norm.reference import group_norm as group_norm_definition
from maskrcnn.ops.match import match
from maskrcnn.ops.match.reference import match as match_definition
from maskrcnn.ops.nms import nms
from maskrcnn.ops.nms.reference import nms as nms_definition
from maskrcnn.ops.paste import paste, paste_outlines, paste_rle
from maskrcnn.ops.paste.reference import paste as paste_definition
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.ops.rasterize.reference import rasterize as rasterize_definition
from maskrcnn.ops.resize import resize
from maskrcnn.ops.resize.reference import resize as resize_definition
from maskrcnn.ops.roi_align import roi_align
from maskrcnn.ops.roi_align.reference import roi_align as roi_align_definition
from maskrcnn.view import View

HEIGHT, WIDTH = 96, 160
"""Pixels of the image that boxes lie in."""
STRIDES = (4, 8, 16, 32)
FLOAT32, BF16 = 1e-4, 8e-3
"""Tolerances: rounding of sums in another order, and one unit of bf16's last place with some to spare."""
EXACT, FEW_CELLS = 0.0, 1e-3
"""Tolerances of choices: none may differ, or one cell in a thousand, whose centre lies on an outline."""


class Example(NamedTuple):
    """One call of an operator, and what it should give."""

    name: str
    operator: str
    """The folder under `ops`."""
    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    """Makes the arguments on the CPU: tensors, lists of tensors, or None."""
    kernel: Callable[..., Any]
    definition: Callable[..., Any]
    """What the kernel should compute; both take the arguments and return a tensor or several."""
    tolerance: float
    """Largest `difference` that is allowed."""
    learnt: Sequence[int] = ()
    """Indices of the arguments that have a gradient, which is computed too."""


def examples(*operators: str) -> list[Example]:
    """The examples of some operators, of all without a name."""
    return [example for example in EXAMPLES if not operators or example.operator in operators]


def compute(example: Example, function: Callable[..., Any], device: torch.device) -> list[Tensor]:
    """The results of a function on an example's inputs, then the gradients of what is learnt, all on the CPU."""
    generator = torch.Generator().manual_seed(0)
    arguments = [_moved(argument, device) for argument in example.inputs(generator)]
    learnt = [tensor for index in example.learnt for tensor in _tensors(arguments[index])]
    for tensor in learnt:
        tensor.requires_grad_()
    results = _tensors(function(*arguments))
    gradients: Sequence[Tensor] = ()
    if learnt:
        upstream = torch.randn(results[0].shape, generator=generator).to(device, results[0].dtype)
        gradients = torch.autograd.grad(results[0], learnt, upstream)
    return [tensor.detach().cpu() for tensor in (*results, *gradients)]


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """How far results are from those expected: the largest of all tensors, infinite where shapes or types differ.

    Of floats it is the largest deviation as a share of the largest expected number, infinite where one is NaN; of
    integers and booleans the share of entries that differ.
    """
    if [(one.shape, one.dtype) for one in found] != [(one.shape, one.dtype) for one in expected]:
        return float("inf")
    return max((_difference(ours, theirs) for ours, theirs in zip(found, expected, strict=True)), default=0.0)


def _difference(found: Tensor, expected: Tensor) -> float:
    if not expected.numel():
        return 0.0
    if not expected.is_floating_point():
        return float((found != expected).double().mean())
    scale = expected.double().abs().max().clamp(min=1e-30)
    largest = float((found.double() - expected.double()).abs().max() / scale)
    return largest if largest == largest else float("inf")


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    return [_moved(one, device) for one in value] if isinstance(value, list) else value


def _channels_last(*shape: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator).to(dtype, memory_format=torch.channels_last)


def _boxes(*shape: int, generator: torch.Generator) -> Tensor:
    """Boxes of all sizes in an image, some beyond its edge."""
    size = torch.tensor([float(WIDTH), float(HEIGHT)])
    corner = torch.rand(*shape, 2, generator=generator) * size - 8
    return torch.cat([corner, corner + 2 + torch.rand(*shape, 2, generator=generator) ** 2 * size], dim=-1)


def _convolution(
    generator: torch.Generator, *, kernel: int, channels: int, outputs: int, height: int, width: int, stride: int = 1
) -> tuple[Any, ...]:
    """Pixels, weights and bias; a 1 x 1 convolution has a residual too."""
    x = _channels_last(2, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator) / (kernel * channels**0.5)
    bias = torch.randn(outputs, generator=generator)
    if kernel == 3:
        return x, weight, bias
    return x, weight, bias, _channels_last(2, outputs, -(-height // stride), -(-width // stride), generator=generator)


def _convolution1x1(name: str, stride: int) -> Example:
    shape: dict[str, int] = {"channels": 64, "outputs": 96, "height": 24, "width": 28}
    return Example(
        name,
        "conv1x1",
        lambda generator: _convolution(generator, kernel=1, stride=stride, **shape),
        lambda *given: conv1x1(*given, stride=stride, relu=True),
        partial(conv1x1_definition, stride=stride, relu=True),
        FLOAT32,
        learnt=(0, 1, 2, 3),
    )


def _convolution3x3(name: str, stride: int, **shape: int) -> Example:
    return Example(
        name,
        "conv3x3",
        lambda generator: _convolution(generator, kernel=3, **shape),
        lambda *given: conv3x3(*given, stride=stride, relu=True),
        partial(conv3x3_definition, stride=stride, relu=True),
        FLOAT32,
        learnt=(0, 1, 2),
    )


def _depthwise(name: str, dtype: torch.dtype, tolerance: float, *, side: int, stride: int, width: int) -> Example:
    """Between two of ReLU6; the definition is computed in float32 and rounded once, before the second."""

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        x = 3 + 3 * torch.randn(2, 48, 11, width, generator=generator)
        weight = torch.randn(48, 1, side, side, generator=generator) / side
        x = x.to(dtype, memory_format=torch.channels_last)
        return x, weight, torch.randn(48, generator=generator)

    def definition(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = depthwise_definition(x.float(), weight, bias, stride, True, False, 6.0)
        return F.hardtanh(y.to(dtype), 0.0, 6.0)

    return Example(
        name,
        "depthwise",
        inputs,
        lambda *given: depthwise(*given, stride=stride, before=True, after=True, ceiling=6.0),
        definition,
        tolerance,
        learnt=(0, 1, 2),
    )


def _norm(name: str, dtype: torch.dtype, tolerance: float) -> Example:
    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        x = _channels_last(2, 32, 13, 21, generator=generator, dtype=dtype)
        return x, torch.randn(32, generator=generator), torch.randn(32, generator=generator)

    settings: dict[str, Any] = {"groups": 8, "eps": 1e-5, "relu": True}
    return Example(
        name,
        "group_norm",
        inputs,
        lambda *given: group_norm(*given, **settings),
        lambda *given: group_norm_definition(*given, **settings),
        tolerance,
        learnt=(0, 1, 2),
    )


def _matching(generator: torch.Generator) -> tuple[Any, ...]:
    """700 candidates; half the slots hold objects, one in eight a crowd."""
    boxes = _boxes(2, 16, generator=generator)
    slot = torch.arange(16).expand(2, -1)
    return _boxes(2, 700, generator=generator), boxes, slot < 8, (slot == 8) | (slot == 9)


def _suppression(generator: torch.Generator) -> tuple[Any, ...]:
    """Some blocks of boxes in three groups, one in ten taking no part."""
    groups = torch.randint(0, 3, (2, 200), generator=generator)
    return _boxes(2, 200, generator=generator), groups, torch.rand(2, 200, generator=generator) > 0.1


def _rasterizing(generator: torch.Generator) -> tuple[Any, ...]:
    """Triangles and rectangles, three objects in each of two images, and boxes around and across them."""
    corners = _boxes(2, 3, generator=generator)
    x1, y1, x2, y2 = corners.unbind(-1)
    ring = torch.stack([x1, y1, x2, y1, x2, y2, x1, (y1 + y2) / 2], dim=-1).unflatten(-1, (4, 2))
    edges = torch.cat([ring, ring.roll(-1, dims=2)], dim=-1).flatten(1, 2)
    first = torch.tensor([[0, 4, 8, 12]] * 2)
    images = torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
    objects = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])
    shift = torch.rand(8, 4, generator=generator) * 12 - 6
    return edges, first, corners[images, objects] + shift, images, objects


def _pasting(generator: torch.Generator) -> tuple[Any, ...]:
    return torch.rand(6, 28, 28, generator=generator), _boxes(6, generator=generator)


def _pasted_runs(probabilities: Tensor, boxes: Tensor) -> Tensor:
    """The masks of run lengths, which are found without a bitmap."""
    runs = paste_rle(probabilities, boxes, **PLACE)
    masks = [bitmap_from_counts(counts_from_string(one["counts"]), HEIGHT, WIDTH) for one in runs]
    return torch.stack([torch.from_numpy(mask) for mask in masks])


def _outlined_areas(probabilities: Tensor, boxes: Tensor) -> Tensor:
    """Pixels inside the outlines of masks."""
    masks = paste_outlines(probabilities, boxes, **PLACE)
    rings = [[ring for outline in mask for ring in outline] for mask in masks]
    return torch.tensor([float(sum(map(_area, mask))) for mask in rings])


def _area(ring: ndarray) -> float:
    x, y = ring.T.astype(np.float64)
    return float(0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def _resizing(
    name: str,
    antialias: bool,
    area: bool = False,
    whole_levels: bool = False,
    black: bool = False,
    dtype: torch.dtype = torch.uint8,
) -> Example:
    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        """A whole image, a window that leaves one, and one that is turned."""
        images = torch.randint(0, 256, (3, 40, 56, 3), generator=generator, dtype=torch.uint8)
        return (
            images.to(dtype),
            torch.tensor([[40, 50], [30, 56], [40, 56]]),
            torch.tensor([[0.0, 0.0, 50.0, 40.0], [-5.3, 3.1, 40.2, 33.3], [8.0, 2.0, 41.0, 39.0]]),
            torch.tensor([[64, 90], [21, 37], [50, 61]]),
            torch.tensor([True, False, True]),
            torch.tensor([0, 2, 1]),
        )

    bucket, levels = (64, 96), {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}
    settings: dict[str, Any] = {"bucket": bucket, "antialias": antialias, "area": area, **levels}
    settings |= {"whole_levels": whole_levels, "fixed_point": False, "black_padding": black}
    return Example(
        name,
        "resize",
        inputs,
        lambda images, raw_sizes, *view: resize(images, raw_sizes, View(*view), **settings),
        lambda images, raw_sizes, *view: resize_definition(images, raw_sizes, View(*view), **settings),
        FLOAT32,
    )


def _pooling(name: str, dtype: torch.dtype, tolerance: float, *, samples: int, half_pixel: bool) -> Example:
    """Boxes that fall on all levels, for a canonical size of a third of the image's width."""

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        pyramid = [
            _channels_last(2, 32, HEIGHT // stride, WIDTH // stride, generator=generator, dtype=dtype)
            for stride in STRIDES
        ]
        return pyramid, _boxes(24, generator=generator), torch.randint(0, 2, (24,), generator=generator)

    settings: dict[str, Any] = {"output_size": 7, "samples": samples, "half_pixel": half_pixel, "canonical_size": 56}
    return Example(
        name,
        "roi_align",
        inputs,
        lambda *given: roi_align(*given, strides=STRIDES, **settings),
        lambda pyramid, boxes, images: roi_align_definition(
            pyramid, boxes, images, strides=STRIDES, canonical_level=4, **settings
        ),
        tolerance,
        learnt=(0,),
    )


THRESHOLDS: dict[str, Any] = {"positive_iou": 0.7, "negative_iou": 0.3, "keep_best": True}
PLACE: dict[str, Any] = {"height": HEIGHT, "width": WIDTH, "threshold": 0.5}

EXAMPLES = (
    _convolution1x1("conv1x1", 1),
    _convolution1x1("conv1x1, stride 2", 2),
    _convolution3x3("conv3x3, many tiles", 1, channels=64, outputs=96, height=22, width=38),
    _convolution3x3("conv3x3, few tiles", 1, channels=128, outputs=64, height=9, width=13),
    _convolution3x3("conv3x3, stride 2", 2, channels=64, outputs=96, height=23, width=38),
    _depthwise("depthwise", torch.float32, FLOAT32, side=5, stride=1, width=13),
    _depthwise("depthwise, stride 2", torch.float32, FLOAT32, side=3, stride=2, width=21),
    _depthwise("depthwise, bf16", torch.bfloat16, BF16, side=5, stride=2, width=18),
    _norm("group_norm", torch.float32, FLOAT32),
    _norm("group_norm, bf16", torch.bfloat16, BF16),
    Example(
        "match",
        "match",
        _matching,
        lambda *given: match(*given, **THRESHOLDS),
        lambda *given: match_definition(*given, **THRESHOLDS),
        EXACT,
    ),
    Example(
        "nms",
        "nms",
        _suppression,
        lambda *given: nms(*given, threshold=0.5, num_keep=100),
        lambda *given: nms_definition(*given, threshold=0.5, num_keep=100),
        EXACT,
    ),
    Example(
        "rasterize",
        "rasterize",
        _rasterizing,
        lambda *given: rasterize(*given, size=28),
        partial(rasterize_definition, size=28),
        FEW_CELLS,
    ),
    Example(
        "paste",
        "paste",
        _pasting,
        lambda *given: paste(*given, **PLACE),
        lambda *given: paste_definition(*given, **PLACE),
        FEW_CELLS,
    ),
    Example(
        "paste, run lengths",
        "paste",
        _pasting,
        _pasted_runs,
        lambda *given: paste_definition(*given, **PLACE),
        FEW_CELLS,
    ),
    Example(
        "paste, outlines",
        "paste",
        _pasting,
        _outlined_areas,
        lambda *given: paste_definition(*given, **PLACE).float().sum((1, 2)),
        FEW_CELLS,
    ),
    _resizing("resize", True),
    _resizing("resize, two pixels", False),
    _resizing("resize, whole levels", True, whole_levels=True),
    _resizing("resize, areas", True, area=True),
    _resizing("resize, float32", True, dtype=torch.float32),
    _resizing("resize, black padding", True, black=True),
    _pooling("roi_align", torch.float32, FLOAT32, samples=2, half_pixel=True),
    _pooling("roi_align, as many samples as cells", torch.float32, FLOAT32, samples=0, half_pixel=False),
    _pooling("roi_align, bf16", torch.bfloat16, BF16, samples=2, half_pixel=True),
)
