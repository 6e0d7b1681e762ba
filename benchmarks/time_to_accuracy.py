"""How good a model is after so many minutes of training: ours beside torchvision's, one after the other.

Every point is a whole run whose schedule ends with its budget, scored on the validation images. Ours is what
`maskrcnn train DIR` plans for the data and this machine. The peers are torchvision's Mask R-CNN with the numbers of
boxes and anchors of that plan, on ResNet-18 with group norm and random weights, as torchvision's own networks cannot
learn small images from nothing: once with AdamW and a cosine, once with torchvision's reference recipe (SGD, 0.02 for
16 images, falling after 16/26 and 22/26 of the run). Their images and masks wait decoded in memory, so that their
loader costs nothing; the same precision, cores and flips. Ours starts from its ImageNet weights where they are
installed, unless `--from-nothing` takes the peers' network for ours too.

    python benchmarks/time_to_accuracy.py --data DIR [--minutes 2 5 15] [--sides ours adamw reference] [--out DIR]
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision_samples import samples

from maskrcnn.bench import results
from maskrcnn.bench.machine import facts
from maskrcnn.bench.peer import build_peer
from maskrcnn.config import Recipe
from maskrcnn.data.split import open_split
from maskrcnn.evaluate.coco import score_files
from maskrcnn.recipes import read_recipe

matplotlib.use("Agg")

SIDES = {
    "ours": "maskrcnn train DIR",
    "adamw": "torchvision, AdamW and cosine",
    "reference": "torchvision, its reference recipe",
}
FROM_NOTHING = ("model.backbone.kind=resnet18", "model.backbone.norm=group_norm", "model.backbone.pretrained=")
Target = dict[str, Any]
Samples = list[tuple[torch.Tensor, Target]]


def main() -> None:
    """Run every side for every budget, and write the table and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set with COCO annotations")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 15])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--from-nothing", action="store_true", help="ours from random weights too, on ResNet-18")
    parser.add_argument("--out", type=Path, default=results.default_folder())
    options = parser.parse_args()
    own = FROM_NOTHING if options.from_nothing else ()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            for side in options.sides:
                out = Path(folder) / f"{side}-{minutes:g}"
                run = run_ours if side == "ours" else run_peer
                steps, seconds, scores = run(options.data, minutes, out, own, side)
                rows.append(row(SIDES[side], minutes, steps, seconds, scores))
                print(*rows[-1].values(), sep="  ", flush=True)
    start = "random weights" if options.from_nothing else "ours with ImageNet weights, others from random ones"
    known = {**facts(torch.device("cpu")), "data": options.data.name, "start": start}
    key = f"time to accuracy {options.data.name}{' from nothing' if options.from_nothing else ''}"
    section = results.Section(key, f"AP over minutes of training, {options.data.name}", known, rows)
    for path in results.add(options.out, [section]):
        print(f"written to {path}")
    print(f"written to {draw(rows, options.out / (key.replace(' ', '-') + '.png'), options.data.name)}")


def row(side: str, minutes: float, steps: int, seconds: float, scores: dict[str, dict[str, float]]) -> results.Row:
    """One point of the picture."""
    box, mask = (100 * scores[kind]["AP"] for kind in ("bbox", "segm"))
    return {"": side, "minutes": minutes, "seconds": round(seconds), "steps": steps, "box AP": box, "mask AP": mask}


def draw(rows: list[results.Row], path: Path, name: str) -> Path:
    """Two charts, of boxes and masks, a line for each side."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharex=True)
    for chart, metric in zip(axes, ("box AP", "mask AP"), strict=True):
        for side in dict.fromkeys(row[""] for row in rows):
            points = [(row["minutes"], row[metric]) for row in rows if row[""] == side]
            chart.plot(*zip(*points, strict=True), marker="o", label=side)
        chart.set(xlabel="minutes of training", ylabel=metric, ylim=(0, None), title=f"{name}, {metric}")
        chart.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    return path


def run_ours(data: Path, minutes: float, out: Path, own: tuple[str, ...], _: str) -> tuple[int, float, dict[str, Any]]:
    """Steps, seconds and scores of `maskrcnn train`; its one evaluation comes after the training."""
    told = [f"train.minutes={minutes:g}", "train.epochs=100000", "train.evaluate_every=100000", *own]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "maskrcnn", "train", data, "--out", out, *told], check=True)
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    scored = next(line for line in lines if "evaluation" in line)
    return scored["step"], seconds, scored["evaluation"]


def run_peer(data: Path, minutes: float, out: Path, _: tuple[str, ...], side: str) -> tuple[int, float, dict[str, Any]]:
    """The same of torchvision's network, whose loading and evaluation do not count."""
    out.mkdir(parents=True)
    plan = out / "plan.yml"
    subprocess.run([sys.executable, "-m", "maskrcnn", "data", "plan", data, "--out", plan], check=True)
    recipe = read_recipe(plan, [*FROM_NOTHING, f"data.dataset_dir={data}", "data.mean=[123.675,116.28,103.53]",
                                "data.std=[58.395,57.12,57.375]"])  # fmt: skip
    train, validation = (open_split(recipe.data, part) for part in ("train", "val"))
    torch.manual_seed(recipe.train.seed)
    model = build_peer(recipe.model, recipe.data, len(train.category_ids))
    learnt = samples(Path(train.annotations), Path(str(train.images)))
    started = time.perf_counter()
    steps = learn(model, learnt, recipe, minutes, side)
    seconds = time.perf_counter() - started
    predictions = out / "predictions.json"
    held = samples(Path(validation.annotations), Path(str(validation.images)))
    predictions.write_text(json.dumps(list(predict(model, held, validation.category_ids))))
    return steps, seconds, score_files(Path(validation.annotations), predictions)


def learn(model: torch.nn.Module, data: Samples, recipe: Recipe, minutes: float, side: str) -> int:
    """Train until the time is over; returns the steps."""
    settings, batch = recipe.train.optimizer, recipe.train.batch
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if side == "adamw":
        rate = settings.lr * batch / settings.lr_batch
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, rate, weight_decay=settings.weight_decay)
    else:
        rate = 0.02 * batch / 16
        optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=1e-4)
    model.train()
    begin, generator = time.perf_counter(), np.random.default_rng(recipe.train.seed)
    for step, indices in enumerate(endless(len(data), batch, generator)):
        progress = (time.perf_counter() - begin) / (60 * minutes)
        if progress >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * decline(progress, side)
        images = [flipped(*data[i]) if generator.random() < recipe.data.flip else data[i] for i in indices]
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.train.mixed_precision):
            losses = model([pixels.float() / 255 for pixels, _ in images], [target for _, target in images])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    raise AssertionError("batches never end")


def endless(number: int, batch: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of indices, epoch after epoch."""
    while True:
        order = generator.permutation(number)
        yield from (order[start : start + batch] for start in range(0, number - batch + 1, batch))


def decline(progress: float, side: str) -> float:
    """Share of the full rate after this share of the run."""
    if side == "adamw":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 0.1 ** ((progress >= 16 / 26) + (progress >= 22 / 26))


def flipped(pixels: torch.Tensor, target: Target) -> tuple[torch.Tensor, Target]:
    """A sample mirrored left to right."""
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = pixels.shape[2] - boxes[:, [2, 0]]
    return pixels.flip(-1), {**target, "boxes": boxes, "masks": target["masks"].flip(-1)}


@torch.inference_mode()
def predict(model: torch.nn.Module, data: Samples, category_ids: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Every detection as COCO's result files hold it."""
    model.eval()
    for pixels, target in data:
        found = model([pixels.float() / 255])[0]
        for box, label, score, mask in zip(*(found[k] for k in ("boxes", "labels", "scores", "masks")), strict=True):
            x1, y1, x2, y2 = box.tolist()
            runs = coco_mask.encode(np.asfortranarray((mask[0] >= 0.5).numpy().astype(np.uint8)))
            yield {
                "image_id": target["image_id"],
                "category_id": category_ids[int(label) - 1],
                "score": float(score),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
            }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    main()
