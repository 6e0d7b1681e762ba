"""One photo, from its file to the masks of its objects, on a processor, as the users of each side have it.

Every side runs in a process of its own with its default settings, sides take turns, and weights are the same. Besides
the median of later predictions each process tells how long its first result took from the start, and how much of that
is torch's own import; torchvision's converts our weights first. Where torchvision has no such network we are measured
alone.

    python benchmarks/photo.py PHOTO [--config mask_rcnn_resnet50_fpn_1x] [--repeats 5] [--rounds 5] [--out DIR]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

Record = dict[str, Any]
Predict = Callable[[], list[float]]
"""Scores of the objects, whose masks have been made."""
NUM_CLASSES = 80


def ours(weights: Path, photo: Path) -> Predict:
    """A prediction by `maskrcnn.load`."""
    import maskrcnn

    model = maskrcnn.load(weights)
    least = model.recipe.model.box_head.score

    def predict() -> list[float]:
        found = model.predict(photo, score=least)
        assert isinstance(found, maskrcnn.Instances), "the photo is no folder"
        assert len(found.masks) == len(found.scores)
        return found.scores.tolist()

    return predict


def torchvision(weights: Path, photo: Path) -> Predict:
    """The same network of torchvision, which pastes its masks by itself."""
    import numpy as np
    import torch
    from PIL import Image

    from maskrcnn.bench.peer import build_peer
    from maskrcnn.convert.maker import write
    from maskrcnn.convert.torchvision import TORCHVISION
    from maskrcnn.weights import load_weights

    tensors, recipe, _ = load_weights(weights)
    peer = build_peer(recipe.model, recipe.data, len(recipe.classes)).eval()
    peer.load_state_dict(write(TORCHVISION, tensors))

    @torch.inference_mode()
    def predict() -> list[float]:
        pixels = np.asarray(Image.open(photo).convert("RGB"))
        found = peer([torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255])[0]
        assert len(found["masks"] > 0.5) == len(found["scores"])
        return found["scores"].tolist()

    return predict


SIDES = {"ours": ours, "torchvision": torchvision}


def measure(side: str, weights: Path, photo: Path, repeats: int) -> Record:
    """Seconds until torch is there and until the first result, of each later prediction, and the scores."""
    start = time.perf_counter()
    import torch  # noqa: F401

    imported = time.perf_counter() - start
    predict = SIDES[side](weights, photo)
    scores = predict()
    first = time.perf_counter() - start
    seconds = []
    for _ in range(repeats):
        before = time.perf_counter()
        predict()
        seconds.append(time.perf_counter() - before)
    return {"import": imported, "first": first, "later": median(seconds), "scores": scores}


def in_process(side: str, weights: Path, photo: Path, repeats: int) -> Record:
    """The same in a process of its own, which finds modules compiled, as all but the first start do."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, str(photo), "--side", side, "--weights", str(weights)]
    command = [*command, "--repeats", str(repeats)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    record: Record = json.loads(done.stdout)
    return record


def run(photo: Path, name: str, repeats: int, rounds: int) -> Any:
    """The table: medians over the rounds of each side."""
    # Here, because what is measured imports torch by itself.
    import torch
    from msgspec.structs import replace

    from maskrcnn.bench.machine import facts
    from maskrcnn.bench.peer import lacking
    from maskrcnn.bench.results import Section
    from maskrcnn.bench.scene import lively
    from maskrcnn.recipes import read_recipe
    from maskrcnn.weights import save_weights

    classes = tuple(f"class {number}" for number in range(1, NUM_CLASSES + 1))
    recipe = replace(read_recipe(name, []), classes=classes, category_ids=tuple(range(1, NUM_CLASSES + 1)))
    model = lively(recipe.model, NUM_CLASSES)
    lack = lacking(model, recipe.model, recipe.data, NUM_CLASSES)
    sides = ["ours"] if lack else list(SIDES)
    with tempfile.TemporaryDirectory() as folder:
        weights = save_weights(Path(folder) / "weights", model, recipe, {})
        in_process("ours", weights, photo, 1)  # compiles kernels
        runs: dict[str, list[Record]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, mine in runs.items():
                mine.append(in_process(side, weights, photo, repeats))
    title = f"One photo from its file to masks, {name}, each side in {rounds} processes"
    known = facts(torch.device("cpu"))
    return Section(f"photo, {name}", title, known, table(runs), [*notes(runs), *([lack] if lack else [])])


def table(runs: dict[str, list[Record]]) -> list[Record]:
    """Medians of each side."""
    later = {side: median(run["later"] for run in mine) for side, mine in runs.items()}
    rows: list[Record] = []
    for side, mine in runs.items():
        ratio = {"of torchvision's": later[side] / later["torchvision"]} if "torchvision" in runs else {}
        times = {
            "import of torch, s": median(run["import"] for run in mine),
            "first result after it, s": median(run["first"] - run["import"] for run in mine),
        }
        rows.append({"side": side, "prediction, s": later[side], **ratio, **times})
    return rows


def notes(runs: dict[str, list[Record]]) -> list[str]:
    """Whether the sides found the same."""
    found = {side: mine[0]["scores"] for side, mine in runs.items()}
    said = [", ".join(f"{side} found {len(scores)} objects" for side, scores in found.items())]
    if len(found) == 2 and len({len(scores) for scores in found.values()}) == 1:
        apart = max(abs(a - b) for a, b in zip(*map(sorted, found.values()), strict=True))
        said.append(f"their scores differ by {apart:.2g} at most")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--config", default="mask_rcnn_resnet50_fpn_1x")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--side", choices=SIDES, help="measure this one alone, in this process, with --weights")
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.weights, args.photo, args.repeats)))
        return
    from maskrcnn.bench import results

    section = run(args.photo, args.config, args.repeats, args.rounds)
    print(results.described(section))
    results.add(args.out or results.default_folder(), [section])


if __name__ == "__main__":
    main()
