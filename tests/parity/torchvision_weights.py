"""torchvision's Mask R-CNN, trained for a few minutes: weights whose detections are many, as published ones' are.

Random weights would do for one layer after another, but say nothing about scores, suppression and masks. These have
overfitted eight photos, and find a hundred boxes on any other. Trained once, on the CPU, and kept in `runs/parity`.
"""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

pytest.importorskip("torchvision", reason="torchvision is not installed here; `make parity` brings it")
pytest.importorskip("pycocotools", reason="pycocotools is not installed here; `make parity` brings it")

from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "benchmarks"))
from torchvision_samples import samples  # noqa: E402  # the folder is no package

FOLDER = REPOSITORY / "runs" / "parity"
CLASSES = 80
STEPS, BATCH, PHOTOS, SIDE, RATE = 80, 2, 8, 256, 3e-4
Sample = tuple[Tensor, dict]


def weights(version: str, data: list[Sample]) -> dict[str, Tensor]:
    """State dict of the frozen model that `build` makes: trained where there is none yet."""
    path = FOLDER / f"torchvision_{version}.safetensors"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        save_file(_train(version, [one for one in data if 3 <= len(one[1]["labels"]) <= 14][:PHOTOS]), path)
    return load_file(path)


def photos(coco_mini: Path, split: str = "val") -> list[Sample]:
    """Uint8 pictures (3, h, w) and targets in torchvision's form; crowd regions are left out."""
    return samples(coco_mini / "annotations" / f"instances_{split}2017.json", coco_mini / f"{split}2017")


def build(version: str, **settings) -> MaskRCNN:
    """`maskrcnn_resnet50_fpn` with the frozen norms that it has beside pretrained weights, or its `_v2`."""
    if version == "v2":
        return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **settings)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    return MaskRCNN(backbone, CLASSES + 1, **settings)


def _train(version: str, data: list[Sample]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    make = {"v1": maskrcnn_resnet50_fpn, "v2": maskrcnn_resnet50_fpn_v2}[version]  # both with live batch norm
    model = make(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        min_size=SIDE,
        max_size=5 * SIDE // 3,
        box_batch_size_per_image=64,
        rpn_batch_size_per_image=128,
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=200,
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10) * (0.1 if step > 0.85 * STEPS else 1.0)
        batch = [data[(step * BATCH + i) % len(data)] for i in range(BATCH)]
        losses = model([pixels.float() / 255 for pixels, _ in batch], [target for _, target in batch])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    frozen = build(version)
    frozen.load_state_dict(model.state_dict())
    return {name: tensor.contiguous() for name, tensor in frozen.state_dict().items()}


if __name__ == "__main__":
    for name in sys.argv[2:] or ("v1", "v2"):
        weights(name, photos(Path(sys.argv[1])))
