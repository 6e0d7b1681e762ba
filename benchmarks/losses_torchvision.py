"""Fifty SGD steps beside torchvision's: same weights, photos, order and rate; the losses of both in one picture.

    python benchmarks/losses_torchvision.py --weights FILE --data DIR [--out docs/images/losses_beside_torchvision.png]

Both draw the same anchors, and learn from every proposal; photos with crowd regions, which torchvision does not know,
are left out. What still differs are mask targets and the order of additions. How much the latter can do tells a third
run: torchvision again, on pictures that are brighter by a millionth.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision_samples import samples

from maskrcnn.config import Data
from maskrcnn.convert.checkpoint import load_any
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.buckets import DIVISOR, Step, resized_size
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.formats import coco
from maskrcnn.data.loader import make_batch
from maskrcnn.data.transforms import RawBatch
from maskrcnn.draw import PALETTE
from maskrcnn.models.mask_rcnn import build
from maskrcnn.models.matching import sample
from maskrcnn.structures import NEGATIVE, POSITIVE
from maskrcnn.view import View
from maskrcnn.weights import fill

SIDE, LONGEST, PROPOSALS, EVERYTHING = 256, 427, 200, 1_000_000
NAMES = {
    "rpn/objectness": "loss_objectness",
    "rpn/box": "loss_rpn_box_reg",
    "box_head/class": "loss_classifier",
    "box_head/box": "loss_box_reg",
    "mask_head/mask": "loss_mask",
}
Losses = dict[str, Tensor]


def ours(weights: Path, dataset: Dataset) -> tuple[nn.Module, Callable[[RawBatch], Losses]]:
    overrides = (
        f"model.rpn.num_train_proposals={PROPOSALS}",
        f"model.box_head.num_rois={EVERYTHING}",
        "model.box_head.positive_fraction=1.0",
        f"model.mask_head.num_rois={2 * PROPOSALS}",
    )
    tensors, recipe, origin = load_any(weights, overrides)
    model = build(recipe.model, len(recipe.classes), len(recipe.data.mean))
    fill(model, tensors, origin)

    cpu = torch.device("cpu")
    make = micro_batch_maker(AnnotationStore(dataset, cpu), cpu, recipe.data, one_shape=False)

    def losses(raw: RawBatch) -> Losses:
        found = model.losses(*make(raw))
        assert found["count/masks_left_out"] == 0
        return {name: found[name] for name in NAMES}

    return model, losses


def peer(weights: Path, targets: dict[int, dict], brightness: float) -> tuple[nn.Module, Callable[[RawBatch], Losses]]:
    state = load_file(weights)
    model = MaskRCNN(
        resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3),
        len(state["roi_heads.box_predictor.cls_score.bias"]),
        min_size=SIDE,
        max_size=LONGEST,
        rpn_post_nms_top_n_train=PROPOSALS,
        box_batch_size_per_image=EVERYTHING,
        box_positive_fraction=1.0,
    )
    model.load_state_dict(state)
    model.train()
    model.rpn.fg_bg_sampler = sampler = _Sampler()

    def losses(raw: RawBatch) -> Losses:
        sampler.keys = raw.keys
        pixels = raw.images[0].permute(2, 0, 1).float() / 255 * brightness
        found = model([pixels], [targets[int(raw.image_ids[0])]])
        return {name: found[theirs] for name, theirs in NAMES.items()}

    return model, losses


class _Sampler:
    """Chooses anchors by our keys, from torchvision's labels."""

    keys: Tensor

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        label = torch.stack(labels).long()
        index, valid = sample(label, self.keys, num=256, positive_fraction=0.5, stream=1)
        chosen = torch.zeros_like(label, dtype=torch.bool).scatter(1, index, valid)
        return list(chosen & (label == POSITIVE)), list(chosen & (label == NEGATIVE))


def photos(data: Path, number: int) -> tuple[Dataset, list[RawBatch], dict[int, dict]]:
    """The first training photos with objects and without crowd regions, each a batch of its own."""
    annotations, images = data / "annotations" / "instances_train2017.json", data / "train2017"
    dataset = coco.read(annotations, images)
    batches = []
    for index, (first, last) in enumerate(zip(dataset.first_object, dataset.first_object[1:], strict=False)):
        if first == last or dataset.crowd[first:last].any() or len(batches) == number:
            continue
        size = resized_size(*dataset.sizes[index].tolist(), SIDE, LONGEST, "down")
        bucket = (-(-size[0] // DIVISOR) * DIVISOR, -(-size[1] // DIVISOR) * DIVISOR)
        view = View.whole(torch.tensor(dataset.sizes[[index]]), torch.tensor([size]))
        batches.append(make_batch(dataset, Step(bucket, np.array([index]), view, np.array([index])), Data()))
    return dataset, batches, {target["image_id"]: target for _, target in samples(annotations, images)}


def train(
    model: nn.Module, losses: Callable[[RawBatch], Losses], batches: list[RawBatch], *, batch: int, rate: float
) -> list[dict[str, float]]:
    """SGD over the photos in their order; the gradient is the mean over the photos of a step."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate, 0.9, weight_decay=1e-4)
    curves = []
    for start in range(0, len(batches), batch):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (len(curves) + 1) / 10)
        optimizer.zero_grad()
        means = dict.fromkeys(NAMES, 0.0)
        for raw in batches[start : start + batch]:
            found = losses(raw)
            (torch.stack(list(found.values())).sum() / batch).backward()
            for name, loss in found.items():
                means[name] += loss.item() / batch
        optimizer.step()
        curves.append({"total": sum(means.values()), **means})
        print(len(curves), " ".join(f"{name} {value:.4f}" for name, value in curves[-1].items()), flush=True)
    return curves


def draw(runs: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The sum large, its five parts small; torchvision broad and pale, ours thin upon it."""
    scale, width, height = 3, 1200, 680
    image = Image.new("RGB", (width * scale, height * scale), "white")
    canvas = _Canvas(ImageDraw.Draw(image), scale)
    canvas.text(40, 22, "The same fifty steps of SGD, here and in torchvision", 22, (20, 20, 20))
    canvas.text(40, 54, _caption(runs), 14, (90, 90, 90))
    canvas.key(968, 530, runs)
    places = {"total": (40, 100, 560, 504)}
    for number, name in enumerate(NAMES):
        places[name] = (655 + 275 * (number % 2), 100 + 190 * (number // 2), 230, 124)
    for name, (x, y, w, h) in places.items():
        canvas.panel(x, y, w, h, "sum of the losses" if name == "total" else name, name, runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((width, height), Image.Resampling.LANCZOS).save(path, optimize=True)


def _caption(runs: dict[str, list[dict[str, float]]]) -> str:
    apart, noise = (difference(runs["torchvision"], runs[name]) for name in ("ours", "torchvision, once more"))
    return (
        f"Difference of the sums: {100 * apart:.2f} % on average, {100 * noise:.2f} % between torchvision and itself "
        "on pictures brighter by a millionth."
    )


def difference(a: list[dict[str, float]], b: list[dict[str, float]], name: str = "total") -> float:
    """Mean over the steps, as a share of the mean loss."""
    values = np.array([[x[name], y[name]] for x, y in zip(a, b, strict=True)])
    return float(np.abs(values[:, 0] - values[:, 1]).mean() / values[:, 0].mean())


STYLES = {
    "torchvision": ((176, 205, 226), 6.0),
    "torchvision, once more": (PALETTE[2], 1.2),
    "ours": (PALETTE[3], 1.6),
}
"""Colour and breadth, in the order of drawing."""


class _Canvas:
    """Pillow, in units of the final picture."""

    def __init__(self, pen: ImageDraw.ImageDraw, scale: int) -> None:
        self.pen, self.scale = pen, scale

    def text(self, x: float, y: float, text: str, size: int, color: tuple[int, int, int], anchor: str = "la") -> None:
        font = ImageFont.load_default(size * self.scale)
        self.pen.text((x * self.scale, y * self.scale), text, color, font, anchor)

    def line(self, points: list[tuple[float, float]], color: tuple[int, int, int], breadth: float) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self.pen.line(scaled, color, round(breadth * self.scale), joint="curve")

    def key(self, x: float, y: float, runs: dict[str, list[dict[str, float]]]) -> None:
        for name, (color, breadth) in STYLES.items():
            if name in runs:
                self.line([(x, y), (x + 30, y)], color, breadth)
                self.text(x + 40, y, name, 14, (40, 40, 40), "lm")
                y += 28

    def panel(
        self, x: float, y: float, w: float, h: float, title: str, name: str, runs: dict[str, list[dict[str, float]]]
    ) -> None:
        highest = 1.08 * max(step[name] for run in runs.values() for step in run)
        number = max(len(run) for run in runs.values())
        step = _round_step(highest / 4)
        self.text(x, y + 4, title, 14, (40, 40, 40))
        bottom, left, right = y + 28 + h, x + 38, x + w
        for value in np.arange(0, highest, step):
            row = bottom - h * value / highest
            self.line([(left, row), (right, row)], (232, 232, 232), 1)
            self.text(left - 7, row, f"{value:g}" if step >= 1e-3 else f"{value:.1e}", 11, (110, 110, 110), "rm")
        for tick in range(0, number + 1, 10):
            self.text(left + (right - left) * tick / number, bottom + 6, str(tick), 11, (110, 110, 110), "ma")
        self.text(right, bottom + 22, "steps", 11, (110, 110, 110), "ra")
        for run, (color, breadth) in STYLES.items():
            if run in runs:
                values = [step[name] for step in runs[run]]
                places = [
                    (left + (right - left) * (i + 1) / number, bottom - h * value / highest)
                    for i, value in enumerate(values)
                ]
                self.line(places, color, breadth)


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("runs/parity/torchvision_v1.safetensors"))
    parser.add_argument("--data", type=Path, required=True, help="a folder in the COCO2017 layout")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument("--out", type=Path, default=Path("docs/images/losses_beside_torchvision.png"))
    parser.add_argument("--curves", type=Path, default=Path("benchmarks/results/losses_beside_torchvision.json"))
    parser.add_argument("--redraw", action="store_true", help="only the picture, from the stored curves")
    args = parser.parse_args()
    if not args.redraw:
        dataset, batches, targets = photos(args.data, args.steps * args.batch)
        settings = {"batch": args.batch, "rate": args.rate}
        runs = {
            "torchvision": train(*peer(args.weights, targets, 1.0), batches, **settings),
            "ours": train(*ours(args.weights, dataset), batches, **settings),
            "torchvision, once more": train(*peer(args.weights, targets, 1 + 1e-6), batches, **settings),
        }
        args.curves.parent.mkdir(parents=True, exist_ok=True)
        args.curves.write_text(json.dumps(runs) + "\n")
    runs = json.loads(args.curves.read_text())
    for name in ("total", *NAMES):
        apart, noise = (difference(runs["torchvision"], runs[run], name) for run in ("ours", "torchvision, once more"))
        print(f"{name:15} ours - torchvision {100 * apart:.3f} %, torchvision - torchvision {100 * noise:.3f} %")
    draw(runs, args.out)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
