"""Pictures and targets as torchvision's own training has them: masks drawn by pycocotools."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO


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
