"""Train torchvision's Mask R-CNN with the settings of one of our recipes, for a budget of minutes, and score it.

The peer of `maskrcnn train config/nuclei.yml`: same architecture, images, flips, batch, optimizer and rate, cosine over
the time budget; pictures and masks wait decoded in memory, so that its loader costs nothing.

    python benchmarks/nuclei_torchvision.py --data DIR --minutes 20 --out runs/peer
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision_samples import samples

from maskrcnn.bench.peer import build_peer
from maskrcnn.evaluate.coco import score_files
from maskrcnn.recipes import read_recipe


def flipped(pixels: torch.Tensor, target: dict) -> tuple[torch.Tensor, dict]:
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = pixels.shape[2] - boxes[:, [2, 0]]
    return pixels.flip(-1), {**target, "boxes": boxes, "masks": target["masks"].flip(-1)}


def train(model, data, recipe, minutes: float, mixed: bool) -> int:
    rate = recipe.train.optimizer.lr * recipe.train.batch / recipe.train.optimizer.lr_batch
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], rate, weight_decay=recipe.train.optimizer.weight_decay
    )
    model.train()
    started, step, generator = time.perf_counter(), 0, np.random.default_rng(recipe.train.seed)
    while True:
        for index in np.array_split(generator.permutation(len(data)), len(data) // recipe.train.batch):
            progress = (time.perf_counter() - started) / (60 * minutes)
            if progress >= 1:
                return step
            warm = min(1.0, (step + 1) / max(1, recipe.train.schedule.warmup_steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
            batch = [
                flipped(*data[i]) if generator.random() < recipe.data.flip else data[i]
                for i in index[: recipe.train.batch]
            ]
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                losses = model([p.float() / 255 for p, _ in batch], [t for _, t in batch])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            step += 1
            if step % 50 == 0:
                print(
                    f"step {step}  {progress:.0%}  " + "  ".join(f"{k} {v.item():.3f}" for k, v in losses.items()),
                    flush=True,
                )


@torch.inference_mode()
def predict(model, data) -> list[dict]:
    results = []
    model.eval()
    for pixels, target in data:
        found = model([pixels.float() / 255])[0]
        for box, label, score, mask in zip(*(found[k] for k in ("boxes", "labels", "scores", "masks")), strict=True):
            x1, y1, x2, y2 = box.tolist()
            rle = coco_mask.encode(np.asfortranarray((mask[0] >= 0.5).numpy().astype(np.uint8)))
            results.append({
                "image_id": target["image_id"], "category_id": int(label), "score": float(score),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            })  # fmt: skip
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/nuclei.yml")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--mix", action="store_true", help="bf16 autocast")
    parser.add_argument("--out", type=Path, default=Path("runs/peer"))
    args = parser.parse_args()
    recipe = read_recipe(args.config, [f"data.dataset_dir={args.data}"])
    torch.manual_seed(recipe.train.seed)
    train_set = samples(args.data / recipe.data.train_anno_path, args.data / recipe.data.train_img_dir)
    validation = args.data / recipe.data.val_anno_path
    val_set = samples(validation, args.data / recipe.data.val_img_dir)
    num_classes = len(json.loads(validation.read_text())["categories"])
    model = build_peer(recipe.model, recipe.data, num_classes)
    started = time.perf_counter()
    steps = train(model, train_set, recipe, args.minutes, args.mix)
    seconds = time.perf_counter() - started
    args.out.mkdir(parents=True, exist_ok=True)
    predictions = args.out / "predictions.json"
    predictions.write_text(json.dumps(predict(model, val_set)))
    metrics = score_files(validation, predictions)
    print(f"{steps} steps in {seconds:.0f} s, {steps * recipe.train.batch / seconds:.2f} images/s")
    print(json.dumps(metrics, default=str)[:600])


if __name__ == "__main__":
    main()
