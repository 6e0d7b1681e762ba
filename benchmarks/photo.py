"""One photo, from its file to the masks of its objects, on a processor, as the users of each side have it.

Every way of a side runs in a process of its own with its default settings, ways take turns, and weights are the same:
ours by `auto` precision, and on a processor with bf16 in each number type; torchvision's as it comes, in channels-last
memory, and on a processor with bf16 in that under autocast. Besides the best of later predictions each process tells
how long its first result took from the start, and how much of that is torch's own import; torchvision's converts our
weights first. Where torchvision has no such network we are measured alone.

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
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

Record = dict[str, Any]
Predict = Callable[[], list[float]]
"""Scores of the objects, whose masks have been made."""
NUM_CLASSES = 80


def ours(weights: Path, photo: Path, precision: Any = "auto") -> Predict:
    """A prediction by `maskrcnn.load`."""
    import maskrcnn

    model = maskrcnn.load(weights, device="cpu", precision=precision)
    least = model.recipe.model.box_head.score_threshold

    def predict() -> list[float]:
        found = model.predict(photo, score=least)
        assert isinstance(found, maskrcnn.Instances), "the photo is no folder"
        assert len(found.masks) == len(found.scores)
        return found.scores.tolist()

    return predict


def torchvision(weights: Path, photo: Path, channels_last: bool = False, bf16: bool = False) -> Predict:
    """The same network of torchvision, which pastes its masks by itself."""
    import numpy as np
    import torch
    from PIL import Image

    from maskrcnn.bench.peer import build_peer
    from maskrcnn.convert.framework import write
    from maskrcnn.convert.torchvision import TORCHVISION
    from maskrcnn.weights import load_weights

    tensors, recipe, _ = load_weights(weights)
    peer = build_peer(recipe.model, recipe.data, len(recipe.classes)).eval()
    peer.load_state_dict(write(TORCHVISION, tensors))
    if channels_last:
        peer = peer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    @torch.inference_mode()
    def predict() -> list[float]:
        pixels = np.asarray(Image.open(photo).convert("RGB"))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = peer([torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255])[0]
        assert len(found["masks"] > 0.5) == len(found["scores"])
        return found["scores"].tolist()

    return predict


WAYS: dict[str, Callable[[Path, Path], Predict]] = {
    "ours": ours,
    "ours, fp32": partial(ours, precision="fp32"),
    "ours, bf16": partial(ours, precision="bf16"),
    "torchvision": torchvision,
    "torchvision, channels_last": partial(torchvision, channels_last=True),
    "torchvision, channels_last, bf16": partial(torchvision, channels_last=True, bf16=True),
}
WITHOUT_BF16 = ("ours", "torchvision", "torchvision, channels_last")
"""Those that differ, and end, on a processor that would emulate it."""


def measure(way: str, weights: Path, photo: Path, repeats: int) -> Record:
    """Seconds until torch is there and until the first result, of each later prediction, and the scores."""
    start = time.perf_counter()
    import torch  # noqa: F401

    imported = time.perf_counter() - start
    predict = WAYS[way](weights, photo)
    scores = predict()
    first = time.perf_counter() - start
    seconds = []
    for _ in range(repeats):
        before = time.perf_counter()
        predict()
        seconds.append(time.perf_counter() - before)
    return {"import": imported, "first": first, "later": seconds, "scores": scores}


def in_process(way: str, weights: Path, photo: Path, repeats: int) -> Record:
    """The same in a process of its own, which finds modules compiled, as all but the first start do."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, str(photo), "--way", way, "--weights", str(weights)]
    command = [*command, "--repeats", str(repeats)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    record: Record = json.loads(done.stdout)
    return record


def ways(has_peer: bool, has_bf16: bool) -> list[str]:
    """Those worth measuring here."""
    known = [way for way in WAYS if has_bf16 or way in WITHOUT_BF16]
    return [way for way in known if has_peer or is_ours(way)]


def is_ours(way: str) -> bool:
    return way.startswith("ours")


def run(photo: Path, name: str, repeats: int, rounds: int) -> Any:
    """The table of all ways."""
    # Here, because what is measured imports torch by itself.
    import torch
    from msgspec.structs import replace

    from maskrcnn.bench.machine import facts
    from maskrcnn.bench.peer import lacking
    from maskrcnn.bench.results import Section
    from maskrcnn.bench.setup import trained_like
    from maskrcnn.recipes import read_recipe
    from maskrcnn.runtime.precision import cpu_has_bf16
    from maskrcnn.weights import save_weights

    classes = tuple(f"class {number}" for number in range(1, NUM_CLASSES + 1))
    recipe = replace(read_recipe(name, []), classes=classes, category_ids=tuple(range(1, NUM_CLASSES + 1)))
    model = trained_like(recipe.model, NUM_CLASSES)
    lack = lacking(model, recipe.model, recipe.data, NUM_CLASSES)
    measured = ways(not lack, cpu_has_bf16())
    with tempfile.TemporaryDirectory() as folder:
        weights = save_weights(Path(folder) / "weights", model, recipe, {})
        for way in filter(is_ours, measured):
            in_process(way, weights, photo, 1)  # compiles kernels
        runs: dict[str, list[Record]] = {way: [] for way in measured}
        for _ in range(rounds):
            for way, mine in runs.items():
                mine.append(in_process(way, weights, photo, repeats))
    title = f"One photo from its file to masks, {name}, each way in {rounds} processes"
    known = facts(torch.device("cpu"))
    return Section(f"photo, {name}", title, known, table(runs), [*notes(runs), *([lack] if lack else [])])


def table(runs: dict[str, list[Record]]) -> list[Record]:
    """The best prediction of each way, beside torchvision's as it comes and in its best way, and the median of all."""
    best = {way: min(min(run["later"]) for run in mine) for way, mine in runs.items()}
    theirs = min((seconds for way, seconds in best.items() if not is_ours(way)), default=None)
    rows: list[Record] = []
    for way, mine in runs.items():
        ratios = {} if theirs is None else {"of torchvision's": best[way] / best["torchvision"]}
        ratios |= {} if theirs is None else {"of its best way": best[way] / theirs}
        times = {
            "median, s": median(seconds for run in mine for seconds in run["later"]),
            "import of torch, s": median(run["import"] for run in mine),
            "first result after it, s": median(run["first"] - run["import"] for run in mine),
        }
        rows.append({"way": way, "best, s": best[way], **ratios, **times})
    return rows


def notes(runs: dict[str, list[Record]]) -> list[str]:
    """Whether the ways found the same: how many objects, and how far scores are from torchvision's as it comes."""
    found = {way: sorted(mine[0]["scores"]) for way, mine in runs.items()}
    said = ["objects: " + ", ".join(f"{len(scores)} by {way}" for way, scores in found.items())]
    for way, scores in found.items():
        theirs = found.get("torchvision", [])
        if way != "torchvision" and scores and len(scores) == len(theirs):
            apart = max(abs(a - b) for a, b in zip(scores, theirs, strict=True))
            said.append(f"scores by {way} differ from torchvision's by {apart:.2g} at most")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--config", default="mask_rcnn_resnet50_fpn_1x")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--way", choices=WAYS, help="measure this one alone, in this process, with --weights")
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args.weights, args.photo, args.repeats)))
        return
    from maskrcnn.bench import results

    section = run(args.photo, args.config, args.repeats, args.rounds)
    print(results.described(section))
    results.add(args.out or results.default_folder(), [section])


if __name__ == "__main__":
    main()
