"""How much slower training is with a checkpoint after every ten steps than without any.

Stretches of ten steps take turns: one begins with a checkpoint, whose writing goes on during its steps and is waited
for at its end, as the next checkpoint would; the other has none. The ratio of their rates is 1 where nothing is lost.
Printed for a Mask R-CNN with ResNet-50 and an optimizer's momentum (350 MB) on small images, and for a tiny network.

    python benchmarks/checkpoint.py [--rounds N] [--folder DIR]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from maskrcnn.config import RPN, Backbone, BoxHead, Data, MaskHead, Model, Neck, Optimizer, Recipe, Train
from maskrcnn.data.feeder import feed
from maskrcnn.data.loader import Loader
from maskrcnn.data.shapes import generate
from maskrcnn.runtime import distributed
from maskrcnn.train.log import Log
from maskrcnn.train.loop import _loader
from maskrcnn.train.setup import set_up
from maskrcnn.train.training import Training, new_window

STEPS = 10
"""Steps from one checkpoint to the next."""
WARM = 3
"""Steps before anything is measured."""
TINY = Model(
    backbone=Backbone(kind="resnet18", norm="group_norm", pretrained="", frozen_stages=0, width=16),
    neck=Neck(channels=32),
    rpn=RPN(num_train_candidates=64, num_train_proposals=32),
    box_head=BoxHead(hidden=64, num_rois=32),
    mask_head=MaskHead(num_convs=1, channels=32, num_rois=16),
)
MODELS = {"resnet50": Model(backbone=Backbone(kind="resnet50", pretrained="")), "tiny": TINY}


def recipe(model: Model, data: Path, side: int) -> Recipe:
    """A run on drawn images, four in a step."""
    settings = Train(batch=4, epochs=10_000, evaluate_every=0, optimizer=Optimizer(lr=1e-4))
    where = Data(dataset_dir=str(data), short_sides=(side,), max_side=2 * side, num_buckets=1, num_workers=1)
    return Recipe(name="checkpoint", model=model, data=where, train=settings)


def prepared(folder: Path, model: Model, side: int) -> tuple[Training, Callable[[], None]]:
    """A run, and what does a step of it, always on the same images."""
    data = generate(folder / "shapes", num_train=8, num_val=1, seed=1, side=128)
    world, out = distributed.start("auto"), folder / "run"
    out.mkdir()
    training = set_up(recipe(model, data, side), out, world, Log(out, is_main=False))
    training.model.train()
    loader: Loader = _loader(training, 0)
    fetched = training.fetch(loader, feed(iter(loader), training.make, world.device))

    def step() -> None:
        training.learn(fetched)
        training.window.check()  # waits for the device
        training.course.add(training.window.totals)
        training.window = new_window(training.update)

    return training, step


def measured(training: Training, step: Callable[[], None], rounds: int) -> dict[str, float]:
    """Medians over the rounds: seconds of the stretches and of the stall, and the ratio of rates in a round."""
    for _ in range(WARM):
        step()
    found: dict[str, list[float]] = {"without": [], "with": [], "stall": [], "ratio": []}
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        middle = time.perf_counter()
        training.save()
        found["stall"].append(time.perf_counter() - middle)
        for _ in range(STEPS):
            step()
        training.settle()
        end = time.perf_counter()
        found["without"].append(middle - begin)
        found["with"].append(end - middle)
        found["ratio"].append((middle - begin) / (end - middle))
    return {name: round(median(values), 4) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; default: a temporary folder")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    for name in options.models:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            training, step = prepared(Path(folder), MODELS[name], side=128)
            parameters = sum(parameter.numel() for parameter in training.model.parameters())
            print(json.dumps({"model": name, "parameters": parameters, **measured(training, step, options.rounds)}))


if __name__ == "__main__":
    main()
