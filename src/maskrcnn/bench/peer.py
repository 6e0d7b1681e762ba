"""torchvision's Mask R-CNN with the architecture, settings and weights of one of our recipes: the peer in benchmarks.

It is imported only when it is asked for: the project itself does without it. Both sides are given the same pixels,
resized, normalised and padded, and neither pastes masks into the image.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.bench.parts import DETECT, PROPOSE, SEGMENT, TRUNK
from maskrcnn.bench.timing import Work
from maskrcnn.convert.framework import write
from maskrcnn.convert.torchvision import TORCHVISION
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.sentences import some_of
from maskrcnn.structures import ImageBatch, Targets


def lacking(model: nn.Module, settings: config.Model, data: config.Data, num_classes: int) -> str:
    """Why there is no peer of one of our models; empty where there is one."""
    if find_spec("torchvision") is None:
        return "torchvision is not installed"
    if settings.backbone.is_efficientnet:
        return f"torchvision has no Mask R-CNN on {settings.backbone.kind}"
    with torch.device("meta"):
        theirs = build_peer(settings, data, num_classes).state_dict()
    ours = write(TORCHVISION, {name: tensor.to("meta") for name, tensor in model.state_dict().items()})
    strange = [name for name in ours | theirs if _shape(ours, name) != _shape(theirs, name)]
    return f"torchvision has no such network: {some_of(strange, 1)} differ" if strange else ""


def build_peer(settings: config.Model, data: config.Data, num_classes: int) -> nn.Module:
    """The same layers, sampling numbers and thresholds, on torchvision's classes."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    rpn, box, mask, channels = settings.rpn, settings.box_head, settings.mask_head, settings.neck.channels
    head_norm = _group_norm if settings.backbone.norm == "group_norm" else None
    return MaskRCNN(
        _backbone(settings, head_norm),
        None,
        min_size=max(data.short_sides),
        max_size=data.max_side,
        image_mean=[m / 255 for m in data.mean],
        image_std=[s / 255 for s in data.std],
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in rpn.anchor_sizes), (rpn.aspect_ratios,) * 5),
        rpn_pre_nms_top_n_train=rpn.num_train_candidates,
        rpn_pre_nms_top_n_test=rpn.num_test_candidates,
        rpn_post_nms_top_n_train=rpn.num_train_proposals,
        rpn_post_nms_top_n_test=rpn.num_test_proposals,
        rpn_batch_size_per_image=rpn.num_samples,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], box.pool_size, 2),
        box_head=TwoMLPHead(channels * box.pool_size**2, box.hidden),
        box_predictor=FastRCNNPredictor(box.hidden, num_classes + 1),
        box_batch_size_per_image=box.num_rois,
        box_score_thresh=box.score_threshold,
        box_detections_per_img=box.num_detections,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], mask.pool_size, 2),
        mask_head=MaskRCNNHeads(channels, (mask.channels,) * mask.num_convs, 1, norm_layer=head_norm),
        mask_predictor=MaskRCNNPredictor(mask.channels, mask.channels, num_classes + 1),
    )


def same_network(model: nn.Module, settings: config.Model, data: config.Data, num_classes: int) -> nn.Module:
    """The peer with the weights of one of our models, which is not lacking, on its device."""
    peer = build_peer(settings, data, num_classes)
    peer.load_state_dict(write(TORCHVISION, {name: t.cpu() for name, t in model.state_dict().items()}), strict=True)
    return peer.to(next(model.parameters()).device)


def takes_prepared(peer: nn.Module, bucket: tuple[int, int]) -> nn.Module:
    """The peer without resizing, normalising and pasting."""
    peer.transform = _Prepared(bucket)
    return peer


def image_list(images: ImageBatch) -> list[Tensor]:
    """One tensor for each image, without its padding, as torchvision takes them."""
    sizes = images.sizes.long().tolist()
    return [pixels[:, :height, :width] for pixels, (height, width) in zip(images.pixels, sizes, strict=True)]


def annotations(images: ImageBatch, targets: Targets) -> list[dict[str, Tensor]]:
    """What torchvision learns from: boxes, labels and bitmaps of each image, without crowd regions."""
    out = []
    for image, (height, width) in enumerate(images.sizes.long().tolist()):
        real = torch.nonzero(targets.valid[image] & ~targets.crowd[image]).flatten()
        out.append(
            {
                "boxes": targets.boxes[image, real],
                "labels": targets.labels[image, real],
                "masks": bitmaps(targets, image, real, height, width).to(torch.uint8),
            }
        )
    return out


def bitmaps(targets: Targets, image: int, objects: Tensor, height: int, width: int) -> Bool[Tensor, "n h w"]:
    """The pixels whose centres lie inside the outlines of some objects: a grid of square cells over the image."""
    side = max(height, width)
    boxes = targets.boxes.new_tensor([[0.0, 0.0, side, side]]).expand(len(objects), 4).contiguous()
    images = torch.full_like(objects, image)
    grid = rasterize(targets.edges, targets.first_edge, boxes, images, objects, size=side)
    return grid[:, :height, :width] > 0


def peer_stages(peer: Any, images: list[Tensor]) -> dict[str, Work]:
    """Each stage of a prediction, on what the one before gave."""
    batch, _ = peer.transform(images)
    sizes, heads = batch.image_sizes, peer.roi_heads

    def detect() -> Any:
        pooled = heads.box_head(heads.box_roi_pool(pyramid, proposals, sizes))
        return heads.postprocess_detections(*heads.box_predictor(pooled), proposals, sizes)

    def segment() -> Any:
        from torchvision.models.detection.roi_heads import maskrcnn_inference

        logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(pyramid, boxes, sizes)))
        return maskrcnn_inference(logits, labels)

    pyramid = peer.backbone(batch.tensors)
    proposals, _ = peer.rpn(batch, pyramid)
    boxes, _, labels = detect()
    return {
        TRUNK: lambda: peer.backbone(batch.tensors),
        PROPOSE: lambda: peer.rpn(batch, pyramid),
        DETECT: detect,
        SEGMENT: segment,
    }


def masks_learnt(peer: Any, step: Callable[[], Mapping[str, Tensor]]) -> int:
    """RoIs that go through the mask head in one step: torchvision takes as many as there are positives."""
    seen: list[int] = []
    hook = peer.roi_heads.mask_head.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    step()
    hook.remove()
    return seen[-1]


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


class _Prepared(nn.Module):
    """Replaces torchvision's transform: pads to the bucket, and leaves results as they are."""

    def __init__(self, bucket: tuple[int, int]) -> None:
        super().__init__()
        self.bucket = bucket

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[Any, Any]:
        from torchvision.models.detection.image_list import ImageList

        batch = images[0].new_zeros(len(images), len(images[0]), *self.bucket)
        for slot, image in zip(batch, images, strict=True):
            slot[:, : image.shape[1], : image.shape[2]].copy_(image)
        return ImageList(batch, [tuple(image.shape[1:]) for image in images]), targets

    def postprocess(self, results: Any, sizes: Any, original_sizes: Any) -> Any:
        return results


def _backbone(settings: config.Model, head_norm: Callable[[int], nn.Module] | None) -> Any:
    from torchvision.models import resnet
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.misc import FrozenBatchNorm2d

    normal = FrozenBatchNorm2d if settings.backbone.norm == "frozen_batch_norm" else _group_norm
    body = getattr(resnet, settings.backbone.kind)(weights=None, norm_layer=normal)
    backbone = _resnet_fpn_extractor(body, trainable_layers=5, norm_layer=head_norm)
    if settings.neck.channels != 256:
        backbone = _narrow(backbone, settings.neck.channels, head_norm)
    for stage in [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)][
        : settings.backbone.frozen_stages
    ]:
        for name in stage:
            backbone.body[name].requires_grad_(False)
    return backbone


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 2), channels)


def _narrow(backbone: Any, channels: int, norm_layer: Callable[[int], nn.Module] | None) -> Any:
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

    widths = [block[0].in_channels for block in backbone.fpn.inner_blocks]
    backbone.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm_layer)
    backbone.out_channels = channels
    return backbone
