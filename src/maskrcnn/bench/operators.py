"""Calls of every operator at real sizes, with what they must at least read and write."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.bench.case import IMAGE_SIZE, Case, bytes_of
from maskrcnn.bench.dense import convolutions, group_normalisation, resizing
from maskrcnn.boxes import clip
from maskrcnn.config import Model
from maskrcnn.data.buckets import Bucket
from maskrcnn.models.anchors import cell_anchors, level_anchors
from maskrcnn.models.resnet import ResNet
from maskrcnn.ops.match import match
from maskrcnn.ops.match import reference as plain_match
from maskrcnn.ops.nms import nms
from maskrcnn.ops.nms import reference as plain_nms
from maskrcnn.ops.paste import paste, paste_rle
from maskrcnn.ops.paste import reference as plain_paste
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.ops.rasterize import reference as plain_rasterize
from maskrcnn.ops.roi_align import reference as plain_roi_align
from maskrcnn.ops.roi_align import roi_align, roi_levels

OBJECTS, CORNERS = 16, 48
"""Annotated objects of an image, and points of an outline: about twice COCO's means."""
NUM_LEVELS = 5


def cases(settings: Model, batch: int, bucket: Bucket, dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Calls of all operators, in the order in which a step and a prediction make them."""
    torch.manual_seed(0)
    objects = _boxes(batch, OBJECTS, bucket).to(device)
    yield _match_anchors(settings, bucket, objects)
    yield from _suppressions(settings, batch, bucket, device)
    pyramid = _pyramid(settings, batch, bucket, dtype, device)
    box, mask = settings.box_head, settings.mask_head
    for pool, rois, learns in (
        (box.pool_size, box.num_rois, True),
        (box.pool_size, settings.rpn.num_test_proposals, False),
        (mask.pool_size, mask.num_rois, True),
        (mask.pool_size, box.num_detections, False),
    ):
        yield _roi_align(settings, pyramid, _boxes(batch, rois, bucket).to(device), pool, learns)
    yield _rasterize(objects, mask.num_rois, 2 * mask.pool_size)
    yield from _pastes(box.num_detections, 2 * mask.pool_size, device)
    yield from convolutions(pyramid[0])
    yield resizing(batch, bucket, device)
    if "group_norm" in (settings.backbone.norm, settings.head_norm):
        yield group_normalisation(pyramid[0])


def cells_under(boxes: Float[Tensor, "R 4"], pyramid: Sequence[Tensor], strides: Sequence[int]) -> int:
    """How many cells boxes cover on their levels, each of a level at most once."""
    levels, total = roi_levels(boxes, strides), 0
    for number, (level, stride) in enumerate(zip(pyramid, strides, strict=True)):
        sides = (boxes[levels == number, 2:] - boxes[levels == number, :2]) / stride + 1
        total += min(int(sides.prod(dim=1).sum()), level[:, 0].numel())
    return total


def _match_anchors(settings: Model, bucket: Bucket, objects: Float[Tensor, "B G 4"]) -> Case:
    strides = (*ResNet.strides, 2 * ResNet.strides[-1])
    anchors = torch.cat(
        [
            level_anchors(
                cell_anchors(size, settings.rpn.aspect_ratios),
                height=-(-bucket[0] // stride),
                width=-(-bucket[1] // stride),
                stride=(stride, stride),
                offset=settings.rpn.anchor_offset,
            )
            for size, stride in zip(settings.rpn.anchor_sizes, strides, strict=True)
        ]
    ).to(objects.device)
    every = anchors.expand(len(objects), -1, -1)
    real = torch.ones(objects.shape[:2], dtype=torch.bool, device=objects.device)
    arguments = every, objects, real, ~real
    limits: dict[str, Any] = {
        "positive_iou": settings.rpn.positive_iou,
        "negative_iou": settings.rpn.negative_iou,
        "keep_best": True,
    }

    def kernel() -> Any:
        return match(*arguments, **limits)

    return Case(
        "match",
        f"{len(objects)} x {len(anchors):,} anchors, {objects.shape[1]} objects",
        kernel,
        lambda: plain_match.match(*arguments, **limits),
        bytes_of(arguments, kernel()),
    )


def _suppressions(settings: Model, batch: int, bucket: Bucket, device: torch.device) -> Iterator[Case]:
    """Suppression in the RPN, in training and in prediction, and in the box head."""
    rpn, box = settings.rpn, settings.box_head
    for name, candidates, groups, threshold, kept in (
        ("nms, levels", NUM_LEVELS * rpn.num_train_candidates, NUM_LEVELS, rpn.nms_threshold, rpn.num_train_proposals),
        ("nms, levels", NUM_LEVELS * rpn.num_test_candidates, NUM_LEVELS, rpn.nms_threshold, rpn.num_test_proposals),
        ("nms, classes", box.num_candidates, 80, box.nms_threshold, box.num_detections),
    ):
        boxes = _boxes(batch, candidates, bucket).to(device)
        label = torch.randint(groups, boxes.shape[:2]).to(device)
        yield _nms(name, boxes, label, threshold, kept)


def _nms(name: str, boxes: Float[Tensor, "B N 4"], groups: Int[Tensor, "B N"], threshold: float, kept: int) -> Case:
    valid = torch.ones_like(groups, dtype=torch.bool)

    def kernel() -> Any:
        return nms(boxes, groups, valid, threshold=threshold, num_keep=kept)

    return Case(
        name,
        f"{boxes.shape[0]} x {boxes.shape[1]:,} boxes, {kept:,} kept",
        kernel,
        lambda: plain_nms.nms(boxes, groups, valid, threshold=threshold, num_keep=kept),
        bytes_of(boxes, groups, valid, kernel()),
    )


def _roi_align(settings: Model, pyramid: list[Tensor], boxes: Float[Tensor, "B R 4"], pool: int, learns: bool) -> Case:
    """A pass forward, or one forward and back."""
    batch, rois = boxes.shape[:2]
    images = torch.arange(batch, device=boxes.device).repeat_interleave(rois)
    flat = boxes.flatten(0, 1)
    same: dict[str, Any] = {
        "strides": ResNet.strides,
        "output_size": pool,
        "samples": settings.roi_align.sampling_ratio,
        "half_pixel": settings.roi_align.half_pixel,
    }
    levels = [level.detach().requires_grad_(learns) for level in pyramid]
    shape = (batch * rois, pyramid[0].shape[1], pool, pool)
    upstream = torch.randn(shape, dtype=pyramid[0].dtype, device=boxes.device)
    upstream = upstream.contiguous(memory_format=torch.channels_last)

    def passes(align: Callable[[], Tensor]) -> Any:
        if not learns:
            return align()
        with torch.enable_grad():
            pooled = align()
        return [pooled.detach(), *torch.autograd.grad(pooled, levels, upstream)]

    def plain() -> Tensor:
        return plain_roi_align.roi_align(levels, flat, images, **same, canonical_size=224, canonical_level=4)

    row = pyramid[0].shape[1] * pyramid[0].element_size()
    least = cells_under(flat, pyramid, ResNet.strides) * row + upstream.nbytes
    return Case(
        f"roi_align{', forward and backward' if learns else ''}",
        f"{batch} x {rois:,} RoIs, {pool} x {pool}",
        lambda: passes(lambda: roi_align(levels, flat, images, **same)),
        lambda: passes(plain),
        least + (upstream.nbytes + bytes_of(pyramid) if learns else 0),
    )


def _rasterize(objects: Float[Tensor, "B G 4"], rois: int, size: int) -> Case:
    """Every RoI is one of the objects, whose outline is an ellipse."""
    batch, number = objects.shape[:2]
    angle = torch.arange(CORNERS, device=objects.device) * (2 * torch.pi / CORNERS)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    centre, half = (objects[..., :2] + objects[..., 2:]) / 2, (objects[..., 2:] - objects[..., :2]) / 2
    points = centre[:, :, None] + half[:, :, None] * circle
    edges = torch.cat([points, points.roll(-1, dims=2)], dim=3).flatten(1, 2).contiguous()
    first = (torch.arange(number + 1, device=objects.device) * CORNERS).expand(batch, -1).contiguous()
    images = torch.arange(batch, device=objects.device).repeat_interleave(rois)
    owner = torch.arange(batch * rois, device=objects.device) % number
    boxes = objects[images, owner]
    arguments = edges, first, boxes, images, owner

    def kernel() -> Tensor:
        return rasterize(*arguments, size=size)

    return Case(
        "rasterize",
        f"{batch} x {rois} RoIs, {CORNERS} edges, {size} x {size}",
        kernel,
        lambda: plain_rasterize.rasterize(*arguments, size),
        bytes_of(arguments, kernel()),
    )


def _pastes(number: int, cells: int, device: torch.device) -> Iterator[Case]:
    """Masks of one image, as bitmaps and as run lengths."""
    grid = torch.linspace(-1.2, 1.2, cells)
    blob = (4 * (1 - grid[:, None] ** 2 - grid**2)).sigmoid()
    probabilities, boxes = (
        blob.expand(number, -1, -1).contiguous().to(device),
        _boxes(1, number, IMAGE_SIZE)[0].to(device),
    )
    sides: dict[str, Any] = {"height": IMAGE_SIZE[0], "width": IMAGE_SIZE[1]}

    def kernel() -> Tensor:
        return paste(probabilities, boxes, **sides)

    size = f"{number} masks, {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]}"
    yield Case(
        "paste",
        size,
        kernel,
        lambda: plain_paste.paste(probabilities, boxes, *IMAGE_SIZE, 0.5),
        bytes_of(probabilities, boxes, kernel()),
    )
    yield Case("paste_rle", size, lambda: paste_rle(probabilities, boxes, **sides), None, None, on_device=False)


def _pyramid(settings: Model, batch: int, bucket: Bucket, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [
        torch.randn(batch, settings.neck.channels, bucket[0] // stride, bucket[1] // stride, device=device)
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        for stride in ResNet.strides
    ]


def _boxes(batch: int, number: int, bucket: Bucket) -> Float[Tensor, "B N 4"]:
    """Boxes of all sizes, crowded around a few centres, as what a network proposes around objects is."""
    height, width = bucket
    centres = torch.rand(batch, OBJECTS, 2)[:, torch.arange(number) % OBJECTS]
    centre = (centres + 0.03 * torch.randn(batch, number, 2)) * torch.tensor([width, height])
    side = 16.0 * (0.6 * min(bucket) / 16.0) ** torch.rand(batch, OBJECTS, 1)[:, torch.arange(number) % OBJECTS]
    half = 0.5 * side * torch.exp(0.3 * torch.randn(batch, number, 2))
    boxes = torch.cat([centre - half, centre + half], dim=2)
    return clip(boxes, torch.tensor([[height, width]]).expand(batch, 2).float())
