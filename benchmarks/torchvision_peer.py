"""torchvision's Mask R-CNN with the architecture, settings and weights of one of our recipes: the peer in benchmarks.

Needs torchvision, which the project itself does not use; `make bench` builds an environment with it.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import nn
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

from maskrcnn import config


def build_peer(settings: config.Model, data: config.Data, num_classes: int) -> nn.Module:
    """The same layers, sampling numbers and thresholds, on torchvision's classes."""
    normal = FrozenBatchNorm2d if settings.norm == "frozen_batch_norm" else _group_norm
    head_norm = _group_norm if settings.norm == "group_norm" else None
    body = getattr(resnet, settings.backbone)(weights=None, norm_layer=normal)
    backbone = _resnet_fpn_extractor(body, trainable_layers=5, norm_layer=head_norm)
    if settings.channels != 256:
        backbone = _narrow(backbone, settings.channels, head_norm)
    for stage in [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)][: settings.frozen_stages]:
        for name in stage:
            backbone.body[name].requires_grad_(False)
    rpn, box, mask = settings.rpn, settings.box_head, settings.mask_head
    channels = settings.channels
    model = MaskRCNN(
        backbone,
        None,
        min_size=max(data.short_sides),
        max_size=data.max_side,
        image_mean=[m / 255 for m in data.mean],
        image_std=[s / 255 for s in data.std],
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in rpn.anchor_sizes), (rpn.aspect_ratios,) * 5),
        rpn_pre_nms_top_n_train=rpn.train_candidates,
        rpn_pre_nms_top_n_test=rpn.test_candidates,
        rpn_post_nms_top_n_train=rpn.train_proposals,
        rpn_post_nms_top_n_test=rpn.test_proposals,
        rpn_batch_size_per_image=rpn.samples,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], box.pool, 2),
        box_head=TwoMLPHead(channels * box.pool**2, box.hidden),
        box_predictor=_predictor(box.hidden, num_classes + 1),
        box_batch_size_per_image=box.rois,
        box_score_thresh=box.score,
        box_detections_per_img=box.detections,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], mask.pool, 2),
        mask_head=MaskRCNNHeads(channels, (mask.channels,) * mask.convs, 1, norm_layer=head_norm),
        mask_predictor=MaskRCNNPredictor(mask.channels, mask.channels, num_classes + 1),
    )
    return model


def samples(annotations: Path, images: Path) -> list[tuple[torch.Tensor, dict]]:
    """Every picture in memory with its target as torchvision wants it."""
    coco = COCO(str(annotations))
    labels = {category: i + 1 for i, category in enumerate(sorted(coco.getCatIds()))}
    out = []
    for image_id in coco.getImgIds():
        info = coco.loadImgs(image_id)[0]
        pixels = np.asarray(Image.open(images / info["file_name"]).convert("RGB")).copy()
        objects = [
            o
            for o in coco.loadAnns(coco.getAnnIds(image_id))
            if not o["iscrowd"] and o["bbox"][2] > 0 and o["bbox"][3] > 0
        ]
        boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = (
            np.stack([coco.annToMask(o) for o in objects]) if objects else np.zeros((0, *pixels.shape[:2]), np.uint8)
        )
        target = {
            "boxes": boxes,
            "labels": torch.tensor([labels[o["category_id"]] for o in objects], dtype=torch.int64),
            "masks": torch.from_numpy(masks),
            "image_id": image_id,
        }
        out.append((torch.from_numpy(pixels).permute(2, 0, 1), target))
    return out


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 2), channels)


def _narrow(backbone: nn.Module, channels: int, norm_layer) -> nn.Module:
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

    widths = [block[0].in_channels for block in backbone.fpn.inner_blocks]
    backbone.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm_layer)
    backbone.out_channels = channels
    return backbone


def _predictor(hidden: int, num_classes: int) -> nn.Module:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    return FastRCNNPredictor(hidden, num_classes)
