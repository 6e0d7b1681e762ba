"""Our training step and prediction beside torchvision's: same weights, same images, same number of RoIs, one process.

    python benchmarks/cpu.py --data DIR [--config NAME] [--batch N] [key=value ...]

Both sides start from decoded uint8 pictures and include resizing and normalising; both run eagerly in float32, with
frozen batch norm or group norm as the recipe says. The random weights are spread so that detections are many.
Prints medians and ratios, and writes them to benchmarks/results/.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torchvision_peer import build_peer, samples

from maskrcnn.convert.maker import write
from maskrcnn.convert.torchvision import TORCHVISION
from maskrcnn.data import coco
from maskrcnn.data.buckets import buckets_for, plan_evaluation
from maskrcnn.data.loader import make_batch
from maskrcnn.data.transforms import prepare
from maskrcnn.models.mask_rcnn import MaskRCNN, build
from maskrcnn.recipes import read_recipe


def spread_scores(model: MaskRCNN) -> None:
    """Random weights that behave like trained ones in what costs time: finite activations, many detections."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(("conv3.norm.weight", "conv2.norm.weight")):
            buffer.fill_(0.3)
    with torch.no_grad():
        model.box_head.classes.weight.normal_(std=0.3, generator=generator)
        model.box_head.classes.bias[0] = -2.0


def side_by_side(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median milliseconds of both, run in turns so that whatever disturbs one disturbs the other."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for work, spent in zip((ours, peer), times, strict=True):
            started = time.perf_counter()
            work()
            spent.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="maskrcnn/mask_rcnn_resnet50_fpn_1x")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args, overrides = parser.parse_known_args()
    recipe = read_recipe(args.config, [f"data.dataset_dir={args.data}", *overrides])
    annotations = args.data / recipe.data.val_anno_path
    data = coco.read(annotations, args.data / recipe.data.val_img_dir)
    buckets = buckets_for(data.sizes, recipe.data, recipe.data.short_sides[-1:])
    plan = plan_evaluation(data.sizes, recipe.data, buckets, batch=args.batch)
    raw = make_batch(data, plan[len(plan) // 2], recipe.data.max_rowsize)

    torch.manual_seed(0)
    model = build(recipe.model, len(data.category_ids))
    spread_scores(model)
    peer = build_peer(recipe.model, recipe.data, len(data.category_ids))
    peer.load_state_dict(write(TORCHVISION, model.state_dict()))
    by_id = {target["image_id"]: (pixels, target) for pixels, target in samples(annotations, data.images)}
    chosen = [by_id[int(image_id)] for image_id in raw.image_ids]
    masks_of_peer = []
    peer.roi_heads.mask_head.register_forward_pre_hook(lambda _, inputs: masks_of_peer.append(len(inputs[0])))

    def our_prediction():
        with torch.inference_mode():
            return model(prepare(raw, torch.device("cpu"), recipe.data)[0])

    def peer_prediction():
        peer.eval()
        with torch.inference_mode():
            return peer([p.float() / 255 for p, _ in chosen])

    def our_step():
        batch, targets = prepare(raw, torch.device("cpu"), recipe.data)
        losses = model.losses(batch, targets, raw.keys)
        model.zero_grad()
        sum(v for k, v in losses.items() if not k.startswith("count/")).backward()
        return losses

    def peer_step():
        peer.train()
        losses = peer([p.float() / 255 for p, _ in chosen], [t for _, t in chosen])
        peer.zero_grad()
        sum(losses.values()).backward()
        return losses

    found = our_prediction().valid.sum().item(), len(torch.cat([f["scores"] for f in peer_prediction()]))
    predict = side_by_side(our_prediction, peer_prediction, args.repeats)
    peer_step()
    model.mask_head.rois = -(-masks_of_peer[-1] // args.batch)  # the slots of our mask head: as many as its boxes
    train = side_by_side(our_step, peer_step, args.repeats)
    row = {
        "recipe": recipe.name,
        "overrides": overrides,
        "batch": args.batch,
        "bucket": list(raw.bucket),
        "detections": {"maskrcnn": found[0], "torchvision": found[1]},
        "mask_rois_in_training": {"maskrcnn": model.mask_head.rois * args.batch, "torchvision": masks_of_peer[-1]},
        "predict_ms": {"maskrcnn": round(predict[0], 1), "torchvision": round(predict[1], 1)},
        "predict_ratio": round(predict[1] / predict[0], 2),
        "train_ms": {"maskrcnn": round(train[0], 1), "torchvision": round(train[1], 1)},
        "train_ratio": round(train[1] / train[0], 2),
        "repeats": args.repeats,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "date": date.today().isoformat(),
    }
    print(json.dumps(row, indent=2))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"cpu-{recipe.name}-{date.today().isoformat()}.json"
    path.write_text(json.dumps(row, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
