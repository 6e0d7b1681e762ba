"""The arithmetic and the memory traffic of a network, counted on fake tensors: nothing is computed.

Only products of matrices and convolutions count, each reading its inputs and writing its results once: all else can be
fused with them, or is small. So no implementation of these products is faster than the sum over them of the larger of
operations / rate and bytes / bandwidth. Where a CPU convolves by fewer products (`ops/conv3x3`), those count.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula

from maskrcnn.bench.ceilings import Ceilings
from maskrcnn.bench.parts import BACKWARD, FORWARD, stages
from maskrcnn.data.buckets import Bucket
from maskrcnn.models.layers import folded
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.ops.conv3x3 import MIN_TILES
from maskrcnn.ops.conv3x3.cpu import num_multiplications, num_tiles
from maskrcnn.runtime.precision import Precision
from maskrcnn.structures import ImageBatch, Targets
from maskrcnn.train.step import learnt

OBJECTS, EDGES = 8, 64
"""Slots for annotations: they decide no product's size."""


class Operation(NamedTuple):
    """One product of matrices, or convolution."""

    flops: int
    bytes: int


Parts = dict[str, list[Operation]]


def prediction(model: MaskRCNN, batch: int, bucket: Bucket, precision: Precision) -> Parts:
    """Operations of each stage of a prediction."""
    model = folded(model, precision.dtype).eval()
    with _counted(precision) as counter, torch.no_grad():
        works = stages(model, _images(model, batch, bucket))
        return {name: counter.during(work) for name, work in works.items()}


def training(model: MaskRCNN, batch: int, bucket: Bucket, precision: Precision) -> Parts:
    """Operations of the pass to the losses, and of that back to the weights. The model loses its gradients."""
    total: list[Tensor] = []
    with _counted(precision) as counter:
        images = _images(model, batch, bucket)
        keys = torch.zeros(batch, dtype=torch.int64, device=images.pixels.device)
        forward = counter.during(lambda: total.append(learnt(model.losses(images, _targets(images), keys))))
        backward = counter.during(lambda: total[0].backward())
    model.zero_grad(set_to_none=True)  # they are fake
    return {FORWARD: forward, BACKWARD: backward}


def least_seconds(operations: list[Operation], ceilings: Ceilings) -> float:
    """Seconds than which no implementation of these products is faster."""
    return sum(max(one.flops / ceilings.flops, one.bytes / ceilings.bandwidth) for one in operations)


def multiplications(operations: list[Operation]) -> float:
    """Number of multiplications, each with its addition."""
    return sum(one.flops for one in operations) / 2


def optimizer_bytes(model: MaskRCNN, kind: str) -> int:
    """What an update reads and writes: weights, gradients, and one average for SGD, two for AdamW."""
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return trained * {"sgd": 5, "adamw": 7}[kind]


class Counter(TorchDispatchMode):
    """Notes the operations that run while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[Operation] = []

    def during(self, work: Callable[[], object]) -> list[Operation]:
        """Operations of one call."""
        self._operations = []
        work()
        return self._operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)  # `linear` consists of products that have formulas
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self._operations.append(Operation(formula(*args, **kwargs, out_val=result), size))
        return result


@contextmanager
def _counted(precision: Precision) -> Iterator[Counter]:
    with FakeTensorMode(allow_non_fake_inputs=True), precision.autocast(), Counter() as counter:
        yield counter


@register_flop_formula(torch.ops.maskrcnn.conv1x1)
def _conv1x1(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * x[0] * x[2] * x[3] * weight[0] * weight[1]


@register_flop_formula(torch.ops.maskrcnn.fused_convolution)
def _fused_convolution(
    x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object
) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


@register_flop_formula(torch.ops.maskrcnn.conv3x3)
def _conv3x3(
    x: Sequence[int],
    weight: Sequence[int],
    bias: object,
    stride: int,
    *_: object,
    out_shape: Sequence[int],
    **__: object,
) -> int:
    return _flops_of_3x3(x, out_shape, is_transformed=stride == 1 and num_tiles(x) >= MIN_TILES)


@register_flop_formula(torch.ops.maskrcnn.conv3x3_weight_gradient)
def _conv3x3_weight_gradient(grad: Sequence[int], x: Sequence[int], stride: int, *_: object, **__: object) -> int:
    return _flops_of_3x3(x, grad, is_transformed=stride == 1)


@register_flop_formula(torch.ops.maskrcnn.depthwise)
def _depthwise(x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[2:])


@register_flop_formula(torch.ops.maskrcnn.depthwise_backward)
def _depthwise_backward(
    grad: Sequence[int], y: object, x: object, weight: Sequence[int], *how: object, **__: object
) -> int:
    return 2 * sum(map(bool, how[-2:])) * math.prod(grad) * math.prod(weight[2:])


def _flops_of_3x3(x: Sequence[int], y: Sequence[int], *, is_transformed: bool) -> int:
    return 2 * (num_multiplications(x, y[1]) if is_transformed else 9 * x[1] * math.prod(y))


def _images(model: MaskRCNN, batch: int, bucket: Bucket) -> ImageBatch:
    stem = next(model.parameters())
    device, num_bands = stem.device, stem.shape[1]
    pixels = torch.empty(batch, num_bands, *bucket, device=device).contiguous(memory_format=torch.channels_last)
    return ImageBatch(pixels, torch.empty(batch, 2, device=device))


def _targets(images: ImageBatch) -> Targets:
    batch, sizes = len(images.sizes), images.sizes
    return Targets(
        boxes=sizes.new_zeros(batch, OBJECTS, 4),
        labels=sizes.new_zeros(batch, OBJECTS, dtype=torch.int64),
        crowd=sizes.new_zeros(batch, OBJECTS, dtype=torch.bool),
        valid=sizes.new_zeros(batch, OBJECTS, dtype=torch.bool),
        edges=sizes.new_zeros(batch, EDGES, 4),
        first_edge=sizes.new_zeros(batch, OBJECTS + 1, dtype=torch.int64),
    )
