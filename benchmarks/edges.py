"""Edges of masks: mask heads of several kinds learn side by side on one network, inside the annotated boxes.

All heads see the same features, boxes and steps, so what differs is their masks alone. Boxes are annotated ones in
training, moved by up to a twentieth of their sides, and in scoring, where each head draws between probabilities and
between logits. Milliseconds are those of the head alone, for an image that is scored, of one thread's own time.

    python benchmarks/edges.py RECIPE [key=value ...] [--weights WEIGHTS] [--steps 150] [--out DIR]

RECIPE names the data and, without weights, the network, whose features learn too; with weights they stay as they are,
and mask heads go on from those of the weights.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from maskrcnn.config import MaskHead as MaskSettings
from maskrcnn.config import PointHead as PointSettings
from maskrcnn.config import Recipe
from maskrcnn.convert.backbone import load_backbone
from maskrcnn.convert.checkpoint import load_any
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.buckets import Step, buckets_for, plan_epoch, plan_evaluation, whole_images
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.loader import Loader
from maskrcnn.data.split import open_split
from maskrcnn.data.transforms import RawBatch
from maskrcnn.evaluate.coco import Evaluation, Metrics, percent
from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.instances import from_detections
from maskrcnn.models.box_head import Boxes, RoIs
from maskrcnn.models.mask_head import MaskHead
from maskrcnn.models.mask_rcnn import MaskRCNN, build, head_norm
from maskrcnn.models.point_head import PointHead
from maskrcnn.recipes import read_recipe
from maskrcnn.structures import Detections, ImageBatch, MicroBatch, Targets
from maskrcnn.weights import fill

CPU = torch.device("cpu")
NUM_ROIS = 16
"""Objects of an image in the loss, on average."""
SHIFT = 0.05
RATE = 1e-3


class Head(nn.Module):
    """A mask head, and the point head behind it where there is one."""

    def __init__(self, mask: MaskHead, point: PointHead | None = None) -> None:
        super().__init__()
        self.mask, self.point = mask, point

    def losses(self, pyramid: list[Tensor], rois: RoIs, targets: Targets, keys: Tensor) -> Tensor:
        """Add up its losses."""
        mask, masks = self.mask.learn(pyramid, rois, targets)
        point = self.point.learn(pyramid, masks, targets, keys)["point_head/point"] if self.point else 0.0
        return mask["mask_head/mask"] + point

    def segment(self, pyramid: list[Tensor], boxes: Boxes) -> Detections:
        """Draw masks in boxes."""
        found = self.mask.segment(pyramid, boxes)
        return self.point.refine(pyramid, found) if self.point else found


class Pictures(NamedTuple):
    """A split, and its batches in the order of some steps."""

    data: Dataset
    recipe: Recipe

    def batches(self, steps: list[Step]) -> Iterator[tuple[RawBatch, MicroBatch]]:
        """Decode the images of each step and gather their targets."""
        make = micro_batch_maker(AnnotationStore(self.data, CPU), CPU, self.recipe.data, one_shape=False)
        yield from ((raw, make(raw)) for raw in Loader(self.data, steps, self.recipe.data))

    def epochs(self, batch: int) -> Iterator[MicroBatch]:
        """Training batches without end."""
        settings = self.recipe.data
        buckets = buckets_for(self.data.sizes, settings, settings.short_sides)
        for epoch in count():
            steps = plan_epoch(whole_images(self.data.sizes), settings, buckets, batch=batch, seed=1, epoch=epoch)
            yield from (made for _, made in self.batches(steps))

    def once(self, batch: int) -> Iterator[tuple[RawBatch, MicroBatch]]:
        """Each image once, as evaluation sees it."""
        settings = self.recipe.data
        buckets = buckets_for(self.data.sizes, settings, [max(settings.short_sides)])
        yield from self.batches(plan_evaluation(whole_images(self.data.sizes), settings, buckets, batch=batch))


def heads_of(model: MaskRCNN, recipe: Recipe) -> nn.ModuleDict:
    """The mask head of the model, the same with finer cells, and the same with a point head, which begins afresh."""
    settings, channels, strides = recipe.model, recipe.model.neck.channels, model.mask_head.strides

    def mask(**changed: int) -> MaskHead:
        one = replace(settings.mask_head, num_rois=NUM_ROIS, **changed)
        norm, sampling = head_norm(settings), settings.roi_align
        head = MaskHead(one, channels, len(recipe.classes), strides, sampling=sampling, norm=norm)
        head.load_state_dict(model.mask_head.state_dict())
        return head

    torch.manual_seed(0)
    size = settings.mask_head.pool_size
    return nn.ModuleDict(
        {
            "as the recipe": Head(mask()),
            f"pool_size={2 * size}": Head(mask(pool_size=2 * size)),
            "point_head": Head(mask(), PointHead(PointSettings(enabled=True), channels, strides[0])),
        }
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


def learn(model: MaskRCNN, heads: nn.ModuleDict, pictures: Pictures, steps: int, *, frozen: bool) -> None:
    """Train the heads, and the features unless they are frozen."""
    features = nn.ModuleList([model.backbone, model.neck]).requires_grad_(not frozen)
    trained = [p for p in (*features.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, (images, targets, keys) in enumerate(islice(pictures.epochs(pictures.recipe.train.batch), steps), 1):
        with torch.set_grad_enabled(not frozen):
            pyramid = model.neck(model.backbone(images.pixels))
        rois = moved(targets, images, torch.Generator().manual_seed(step))
        losses = {name: head.losses(pyramid, rois, targets, keys) for name, head in heads.items()}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).mean().backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}/{steps}", *(f"{name} {loss.item():.3f}" for name, loss in losses.items()), flush=True)


def moved(targets: Targets, images: ImageBatch, generator: torch.Generator) -> RoIs:
    """The annotated boxes, each side moved a little."""
    sides = (targets.boxes[..., 2:] - targets.boxes[..., :2]).repeat(1, 1, 2)
    shift = (2 * torch.rand(sides.shape, generator=generator) - 1) * SHIFT
    boxes = targets.boxes + sides * shift
    limit = images.sizes.flip(1).repeat(1, 2)[:, None]
    objects = torch.arange(boxes.shape[1]).expand(len(boxes), -1)
    positive = targets.valid & ~targets.crowd
    return RoIs(torch.minimum(boxes.clamp(min=0), limit), targets.labels, objects, positive)


@torch.inference_mode()
def score(model: MaskRCNN, heads: nn.ModuleDict, pictures: Pictures) -> dict[str, dict[str, float | None]]:
    """Mask AP, boundary AP and milliseconds an image of each head and way to interpolate."""
    truth = Truth(pictures.data)
    ways = [(name, logits) for name in heads for logits in (False, True)]
    scored = {way: Evaluation(truth, ("segm",), boundary=True) for way in ways}
    spent: Counter[str] = Counter()
    for raw, (images, targets, _) in pictures.once(pictures.recipe.evaluate.batch):
        pyramid = model.neck(model.backbone(images.pixels))
        real = targets.valid & ~targets.crowd
        boxes = Boxes(targets.boxes, targets.labels, real.float(), real)
        for name, head in heads.items():
            begin = time.thread_time()
            detections = head.segment(pyramid, boxes)
            spent[name] += time.thread_time() - begin
            for logits in (False, True):
                add(scored[name, logits], detections, raw, pictures, logits)
    return {
        f"{name}, {'logits' if logits else 'probabilities'}": row(scored[name, logits].metrics())
        | {"ms": 1000 * spent[name] / len(pictures.data.image_ids)}
        for name, logits in ways
    }


def add(evaluation: Evaluation, detections: Detections, raw: RawBatch, pictures: Pictures, logits: bool) -> None:
    """Paste the masks of a batch and score them."""
    data, pasted = pictures.data, MaskSettings(interpolate="logits" if logits else "probabilities")
    found = from_detections(detections, raw.view, raw.original_sizes, data.category_names, head=pasted)
    ids = raw.image_ids.tolist()
    results = [image.to_coco(number, data.category_ids) for number, image in zip(ids, found, strict=True)]
    evaluation.add(ids, list(chain.from_iterable(results)))


def row(metrics: Metrics) -> dict[str, float | None]:
    """What is compared."""
    mask, boundary = metrics["segm"], metrics["boundary"]["segm"]
    names = ("AP", "AP75", "APl")
    return {f"mask {name}": mask[name] for name in names} | {f"boundary {name}": boundary[name] for name in names}


def compare(recipe: Recipe, weights: str | None, steps: int) -> dict[str, dict[str, float | None]]:
    """Learn and score."""
    torch.manual_seed(0)
    if weights is None:
        training = open_split(recipe.data, "train")
        recipe = replace(recipe, classes=training.category_names, category_ids=tuple(training.category_ids))
        model = build(recipe.model, len(recipe.classes), len(recipe.data.mean))
        load_backbone(model.backbone, recipe.model.backbone, print)
    else:
        trained = load_any(weights)
        mine = trained.recipe
        recipe = replace(mine, data=replace(recipe.data, mean=mine.data.mean, std=mine.data.std), train=recipe.train)
        training = open_split(recipe.data, "train")
        model = build(recipe.model, len(recipe.classes), len(recipe.data.mean))
        fill(model, trained.tensors, trained.origin)
    heads = heads_of(model, recipe)
    learn(model, heads, Pictures(training, recipe), steps, frozen=weights is not None)
    return score(model.eval(), heads.eval(), Pictures(open_split(recipe.data, "val"), recipe))


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path)
    words = parser.parse_intermixed_args()
    found = compare(read_recipe(words.recipe, words.overrides), words.weights, words.steps)
    names = list(next(iter(found.values())))
    print("".ljust(30), *(name.rjust(13) for name in names))
    for way, values in found.items():
        cells = (f"{values[name]:.1f}" if name == "ms" else percent(values[name]) for name in names)
        print(way.ljust(30), *(cell.rjust(13) for cell in cells))
    if words.out is not None:
        words.out.mkdir(parents=True, exist_ok=True)
        (words.out / "edges.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
