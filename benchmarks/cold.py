"""The first prediction of a fresh machine, which compiles kernels, and of the processes after it.

Each is a process of its own; the first has an empty cache folder. Told are the seconds beyond torch's own import until
the masks of a photo are there, and beyond a prediction of the same process that follows.

    python benchmarks/cold.py PHOTO [--config mask_rcnn_resnet50_fpn_1x] [--precision fp32] [--rounds 5] [--out DIR]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from msgspec.structs import replace

from maskrcnn.bench import results
from maskrcnn.bench.machine import facts
from maskrcnn.bench.setup import trained_like
from maskrcnn.recipes import read_recipe
from maskrcnn.weights import save_weights

NUM_CLASSES = 80
PREDICT = """
import json, sys, time
import torch
begin = time.perf_counter()
import maskrcnn
model = maskrcnn.load(sys.argv[1], precision=sys.argv[3])
def predict():
    before = time.perf_counter()
    found = model.predict(sys.argv[2], score=model.recipe.model.box_head.score_threshold)
    assert len(found.masks) == len(found) > 0
    return time.perf_counter() - before
predict()
first = time.perf_counter() - begin
print(json.dumps({"first": first, "later": min(predict() for _ in range(3))}))
"""
Record = dict[str, float]


def seconds(weights: Path, photo: Path, precision: str, rounds: int) -> Iterator[dict[str, Record]]:
    """Of each round: what a cold process took, and a warm one."""
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "MASKRCNN_CACHE": cache, "TMPDIR": cache}
            command = [sys.executable, "-c", PREDICT, str(weights), str(photo), precision]
            runs = [subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE) for _ in range(2)]
            yield dict(zip(("cold", "warm"), (json.loads(run.stdout) for run in runs), strict=True))


def run(photo: Path, name: str, precision: str, rounds: int) -> results.Section:
    """The table: medians of the rounds."""
    classes = tuple(f"class {number}" for number in range(1, NUM_CLASSES + 1))
    recipe = replace(read_recipe(name, []), classes=classes, category_ids=tuple(range(1, NUM_CLASSES + 1)))
    with tempfile.TemporaryDirectory() as folder:
        weights = save_weights(Path(folder) / "weights", trained_like(recipe.model, NUM_CLASSES), recipe, {})
        found = list(seconds(weights, photo, precision, rounds))
    rows: list[results.Row] = []
    for kind in ("cold", "warm"):
        first, later = (median(one[kind][part] for one in found) for part in ("first", "later"))
        rows.append({"kernels": kind, "first result, s": first, "later ones, s": later, "beyond, s": first - later})
    title = f"First prediction beyond torch's import, {name}, {precision}, {rounds} rounds of two processes"
    return results.Section(f"cold, {name}, {precision}", title, facts(torch.device("cpu")), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--config", default="mask_rcnn_resnet50_fpn_1x")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    section = run(args.photo, args.config, args.precision, args.rounds)
    print(results.described(section))
    results.add(args.out or results.default_folder(), [section])


if __name__ == "__main__":
    main()
