"""The main jobs as a person types them, in fresh processes again and again: how many fail, and do they agree.

Training the demo's and the nuclei's recipe and a ResNet-50 for some steps, predicting photos with a ResNet-50 and with
the demo's weights, evaluating; in float32 and bf16, on one thread and on two. What comes out, weights, results or
metrics, is compared byte for byte between processes that do the same.

    python benchmarks/processes.py [--runs 20] [--jobs NAME ...] [--side 800] [--out DIR]
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from msgspec.structs import replace

from maskrcnn.bench import results
from maskrcnn.bench.machine import facts
from maskrcnn.bench.setup import trained_like
from maskrcnn.data.shapes import CATEGORIES, generate
from maskrcnn.recipes import read_recipe
from maskrcnn.runtime.precision import cpu_has_bf16
from maskrcnn.weights import save_weights

NUCLEI = " ".join(
    f"data.{split}_img_dir={split}2017 data.{split}_anno_path=annotations/instances_{split}2017.json"
    for split in ("train", "val")
)
STEPS = "train.evaluate_every=0 train.checkpoint_every=1000"
WEIGHTS = "weights/last/model.safetensors"


class Job(NamedTuple):
    """What a person types, and the file that it is for."""

    command: str
    """{data}, {weights}, {demo}, {side} and {mixed} are filled in, and `--out DIR` is added."""
    product: str
    read: Callable[[bytes], bytes] = bytes


def numbers(content: bytes) -> bytes:
    """An evaluation's metrics without what it took."""
    return json.dumps({name: value for name, value in json.loads(content).items() if name != "speed"}).encode()


JOBS = {
    "train demo": Job(f"train demo data.dataset_dir={{data}} train.max_steps=20 {STEPS} {{mixed}}", WEIGHTS),
    "train nuclei": Job(
        f"train nuclei data.dataset_dir={{data}} {NUCLEI} train.max_steps=4 {STEPS} {{mixed}}", WEIGHTS
    ),
    "train R50": Job(
        f"train mask_rcnn_resnet50_fpn_1x data.dataset_dir={{data}} data.short_sides=[{{side}}] --weights {{weights}} "
        f"train.batch=2 train.max_steps=2 {STEPS} {{mixed}}",
        WEIGHTS,
    ),
    "predict R50": Job("predict {weights} {data}/val2017 --score 0.05 --precision {precision}", "predictions.json"),
    "predict demo": Job("predict {demo} {data}/val2017 --score 0.05 --precision {precision}", "predictions.json"),
    "eval demo": Job("eval demo data.dataset_dir={data} --weights {demo} {evaluated}", "metrics.json", numbers),
}


class Setting(NamedTuple):
    """How a job runs."""

    precision: str
    threads: int


def settings(*threads: int) -> list[Setting]:
    """float32 and, where the processor has it, bf16, on so many threads each."""
    return [Setting(name, number) for name in ("fp32", *["bf16"] * cpu_has_bf16()) for number in threads]


def prepare(folder: Path, side: int) -> dict[str, str]:
    """Pictures, and the weights of two networks."""
    data = generate(folder / "data", num_train=8, num_val=2, seed=3, side=128)
    places = {"data": str(data), "side": str(side)}
    for key, name, sides in (("weights", "mask_rcnn_resnet50_fpn_1x", f"[{side}]"), ("demo", "demo", "[128]")):
        recipe = read_recipe(name, [f"data.short_sides={sides}"])
        recipe = replace(recipe, classes=tuple(CATEGORIES.values()), category_ids=tuple(CATEGORIES))
        places[key] = str(save_weights(folder / key, trained_like(recipe.model, len(CATEGORIES)), recipe, {}))
    return places


def once(job: Job, setting: Setting, places: dict[str, str]) -> str:
    """What one process made, as a digest, or how it failed."""
    mixed = str(setting.precision == "bf16").lower()
    with tempfile.TemporaryDirectory() as out:
        words = job.command.format(
            **places,
            precision=setting.precision,
            mixed=f"train.mixed_precision={mixed}",
            evaluated=f"evaluate.mixed_precision={mixed}",
        )
        command = [sys.executable, "-m", "maskrcnn", *words.split(), "--out", out]
        environment = {**os.environ, "OMP_NUM_THREADS": str(setting.threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"failed with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
        return hashlib.sha256(job.read((Path(out) / job.product).read_bytes())).hexdigest()


def run(names: Sequence[str], runs: int, side: int, threads: Sequence[int] = (1, 2)) -> results.Section:
    """The table: processes of each job, those that failed, and how many different results the others made."""
    rows: list[results.Row] = []
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        places = prepare(Path(folder), side)
        for name in names:
            for setting in settings(*threads):
                made = Counter(once(JOBS[name], setting, places) for _ in range(runs))
                failed = {what: number for what, number in made.items() if what.startswith("failed")}
                notes += [f"{name}: {number} x {what}" for what, number in failed.items()]
                row = {"job": name, **setting._asdict(), "processes": runs, "failed": sum(failed.values())}
                rows.append({**row, "different results": len(made) - len(failed)})
                print(*rows[-1].values(), flush=True)
    title = f"The main jobs in fresh processes, R50 at {side} pixels"
    return results.Section("processes", title, facts(torch.device("cpu")), rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--side", type=int, default=800)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    section = run(args.jobs, args.runs, args.side)
    print(results.described(section))
    results.add(args.out or results.default_folder(), [section])


if __name__ == "__main__":
    main()
