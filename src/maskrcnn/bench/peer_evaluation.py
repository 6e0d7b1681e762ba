"""An evaluation with torchvision's network and its pasting; loading, encoding and scoring are ours."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from maskrcnn.bench import peer
from maskrcnn.bench.setup import Setup
from maskrcnn.data.buckets import Step
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.feeder import feed
from maskrcnn.data.loader import Loader
from maskrcnn.data.transforms import RawBatch, prepare
from maskrcnn.evaluate.coco import score
from maskrcnn.masks import counts_from_bitmap, string_from_counts

MASK_THRESHOLD = 0.5

Found = list[dict[str, Tensor]]


@torch.inference_mode()
def evaluate_peer(setup: Setup, data: Dataset, steps: Sequence[Step], progress: Callable[[int, int], None]) -> None:
    """Predict and score; masks are encoded in a thread while the network is busy with the next batch."""
    device, settings = setup.device, setup.recipe.data
    model: Any = peer.same_network(setup.model, setup.recipe.model, settings, setup.num_classes).eval()
    pasting, done, results = model.transform, 0, []
    loader = Loader(data, steps, settings, pin_memory=device.type == "cuda")
    with ThreadPoolExecutor(max_workers=1) as encoder:
        encoded: list[Future[list[dict[str, Any]]]] = []
        for raw, images in feed(loader, lambda raw: prepare(raw, device, settings), device):
            peer.takes_prepared(model, raw.bucket)
            with setup.precision.autocast():
                found = model(peer.image_list(images))
            found = pasting.postprocess(found, _pairs(raw.view.sizes), _pairs(raw.original_sizes))
            on_host = [{name: _small(tensor).cpu() for name, tensor in one.items()} for one in found]
            encoded.append(encoder.submit(_to_coco, on_host, raw, data))
            done += len(raw.image_ids)
            progress(done, len(data.image_ids))
        results = [result for future in encoded for result in future.result()]
    score(data, results)


def _small(tensor: Tensor) -> Tensor:
    """Pasted masks as bitmaps: a byte for each pixel leaves the device rather than four."""
    return tensor[:, 0] >= MASK_THRESHOLD if tensor.ndim == 4 else tensor


def _to_coco(found: Found, raw: RawBatch, data: Dataset) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "category_id": data.category_ids[label - 1],
            "score": value,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "segmentation": {"size": list(mask.shape), "counts": string_from_counts(counts_from_bitmap(mask))},
        }
        for image_id, one in zip(raw.image_ids.tolist(), found, strict=True)
        for box, label, value, mask in zip(
            one["boxes"].tolist(), one["labels"].tolist(), one["scores"].tolist(), one["masks"].numpy(), strict=True
        )
    ]


def _pairs(sizes: Tensor) -> list[tuple[int, int]]:
    return [(height, width) for height, width in sizes.tolist()]
