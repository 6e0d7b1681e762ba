"""Box and mask metrics of a large evaluation, beside pycocotools and faster-coco-eval.

The data is made: images of COCO's sizes, some seven objects on each, and a hundred results on each image, three near
every object, as many masks as boxes. Every side reads annotations and results from files and computes the twelve
numbers of boxes and of masks, in a process of its own that has imported what it needs; sides take turns. What
`maskrcnn eval --annotations --predictions` does counts whole: it also checks each result and tells errors, confusion
and the quality of each image. "Streamed" is what an evaluation does while it predicts: batches of results, one after
the other, of which nothing is kept; and what is left to do after the last one.

    python benchmarks/evaluation.py [--images 5000] [--repeats 5] [--out DIR]
"""

import argparse
import contextlib
import importlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from maskrcnn.masks import strings_from_counts

SIZES = ((480, 640), (640, 480), (427, 640), (500, 375))
NUM_CLASSES, NUM_OBJECTS, NUM_FOUND, NEAR = 80, 7, 100, 3
CORNERS = 24
"""Of an annotated polygon."""
BATCH = 8
"""Images whose results arrive together."""
SMALLEST, LARGEST = 10, 300
"""Sides of objects, spread evenly in their logarithm."""

Numbers = dict[str, list[float]]
Record = dict[str, Any]


def make(folder: Path, num_images: int, seed: int = 0) -> None:
    """Write annotations, results in one file and in one line for each image, and the boxes and masks of peers."""
    random = np.random.default_rng(seed)
    images: list[Record] = []
    annotations: list[Record] = []
    encode, names = msgspec.json.encode, ("results", "bbox", "segm")
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context((folder / "lines.json").open("wb"))
        files = {name: stack.enter_context((folder / f"{name}.json").open("wb")) for name in names}
        for number in range(1, num_images + 1):
            size = SIZES[number % len(SIZES)]
            images.append({"id": number, "file_name": f"{number:012}.jpg", "height": size[0], "width": size[1]})
            boxes = draw_boxes(random, random.poisson(NUM_OBJECTS), size)
            classes = random.integers(1, NUM_CLASSES + 1, len(boxes))
            annotations += annotated(len(annotations) + 1, number, boxes, classes)
            found = find(random, number, boxes, classes, size)
            lines.write(encode(found) + b"\n")
            for name, file in files.items():
                kept = [without(one, name) for one in found]
                file.write((b"[" if number == 1 else b",") + encode(kept)[1:-1])
        for file in files.values():
            file.write(b"]")
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, NUM_CLASSES + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_bytes(encode(content))


def without(result: Record, kind: str) -> Record:
    """A result for one kind of peers' numbers: a mask goes without its box, so that its own area counts."""
    other = {"bbox": "segmentation", "segm": "bbox"}.get(kind)
    return {name: value for name, value in result.items() if name != other}


def draw_boxes(random: np.random.Generator, number: int, size: tuple[int, int]) -> np.ndarray:
    """x, y, width and height, inside the image."""
    sides = np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST), number))
    stretch = np.exp(random.normal(0, 0.4, number))
    width, height = np.minimum(sides * stretch, size[1] - 2), np.minimum(sides / stretch, size[0] - 2)
    return np.stack([random.uniform(0, size[1] - width), random.uniform(0, size[0] - height), width, height], axis=1)


def annotated(first: int, image: int, boxes: np.ndarray, classes: np.ndarray) -> list[Record]:
    """Ellipses as polygons."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    x, y, width, height = (column[:, None] for column in boxes.T)
    corners = np.stack([x + width / 2 * (1 + np.cos(angles)), y + height / 2 * (1 + np.sin(angles))], axis=-1)
    return [
        {"id": first + place, "image_id": image, "category_id": int(number), "bbox": box, "iscrowd": 0}
        | {"area": np.pi / 4 * box[2] * box[3], "segmentation": [outline]}
        for place, (number, box, outline) in enumerate(
            zip(classes, boxes.round(2).tolist(), corners.round(2).reshape(-1, 2 * CORNERS).tolist(), strict=True)
        )
    ]


def find(
    random: np.random.Generator, image: int, boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int]
) -> list[Record]:
    """Results: some near each object, of which one in four has another class, and others anywhere; best first."""
    near = np.repeat(boxes, NEAR, axis=0)[:NUM_FOUND]
    near = near + random.normal(0, 0.06, near.shape) * np.tile(near[:, 2:], 2)
    far = draw_boxes(random, NUM_FOUND - len(near), size)
    others = random.integers(1, NUM_CLASSES + 1, NUM_FOUND)
    is_other = np.append(random.random(len(near)) < 0.25, np.ones(len(far), bool))
    labels = np.where(is_other, others, np.append(np.repeat(classes, NEAR)[:NUM_FOUND], others[len(near) :]))
    scores = np.append(random.beta(4, 2, len(near)), 0.05 + 0.6 * random.beta(1, 6, len(far))).round(6)
    found = np.concatenate([near, far])
    found[:, :2] = np.clip(found[:, :2], 0, [size[1] - 6, size[0] - 6])
    found[:, 2:] = np.clip(found[:, 2:], 5, [size[1], size[0]] - found[:, :2])
    order = np.argsort(-scores)
    columns = labels[order].tolist(), found[order].round(3).tolist(), scores[order].tolist()
    return [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        | {"segmentation": {"size": list(size), "counts": counts}}
        for label, box, score, counts in zip(*columns, ellipses(random, found[order], size), strict=True)
    ]


def ellipses(random: np.random.Generator, boxes: np.ndarray, size: tuple[int, int]) -> list[str]:
    """Masks with ragged edges, as compressed run lengths: one run in each column."""
    x, y, width, height = boxes.T
    left, right = np.floor(x).astype(int), np.minimum(np.ceil(x + width), size[1]).astype(int)
    number = right - left
    mask, first = np.repeat(np.arange(len(boxes)), number), np.cumsum(number) - number
    column = np.arange(len(mask)) - first[mask] + left[mask]
    offset = (column + 0.5 - (x + width / 2)[mask]) / (width / 2)[mask]
    half = (height / 2)[mask] * np.sqrt(np.clip(1 - offset**2, 0.02, 1)) * random.uniform(0.93, 1, len(mask))
    middle = (y + height / 2)[mask]
    top = np.clip(np.round(middle - half), 0, size[0] - 2).astype(int)
    bottom = np.clip(np.round(middle + half), top + 1, size[0]).astype(int)
    begins, ends = column * size[0] + top, column * size[0] + bottom
    before = np.append(0, ends[:-1])
    before[first] = 0
    counts, stops = np.empty(2 * len(mask) + len(boxes), np.int64), np.cumsum(2 * number + 1)
    place = 2 * np.arange(len(mask)) + mask
    counts[place], counts[place + 1] = begins - before, ends - begins
    counts[stops - 1] = size[0] * size[1] - ends[first + number - 1]
    return strings_from_counts(counts, stops)


def ours(folder: Path) -> Iterator[tuple[str, Numbers]]:
    """Each stage's name when it is over, and the numbers with the last."""
    from maskrcnn.evaluate.coco import NAMES, headline, score_files

    yield "ready", {}
    metrics = headline(score_files(folder / "annotations.json", folder / "results.json"))
    yield "all", {kind: [scores[name] for name in NAMES] for kind, scores in metrics.items()}


def streamed(folder: Path) -> Iterator[tuple[str, Numbers]]:
    """Batches as prediction would give them."""
    from maskrcnn.data.formats.coco import read
    from maskrcnn.evaluate.coco import NAMES, Evaluation, headline
    from maskrcnn.evaluate.hotcoco_engine import Truth

    yield "ready", {}
    evaluation = Evaluation(Truth(read(folder / "annotations.json")))
    yield "annotations", {}
    with (folder / "lines.json").open("rb") as lines:
        while batch := [msgspec.json.decode(line) for line in islice(lines, BATCH)]:
            yield "reading", {}
            evaluation.add([found[0]["image_id"] for found in batch], [one for found in batch for one in found])
            yield "meanwhile", {}
    metrics = headline(evaluation.metrics())
    yield "afterwards", {kind: [scores[name] for name in NAMES] for kind, scores in metrics.items()}


def peer(reader: str, evaluator: str) -> Callable[[Path], Iterator[tuple[str, Numbers]]]:
    """One of the same interface as pycocotools, by the names of its classes."""

    def run(folder: Path) -> Iterator[tuple[str, Numbers]]:
        read, compare = (
            getattr(importlib.import_module(module), name) for module, name in map(split, (reader, evaluator))
        )
        yield "ready", {}
        numbers: Numbers = {}
        with contextlib.redirect_stdout(io.StringIO()):
            truth = read(str(folder / "annotations.json"))
            for kind in ("bbox", "segm"):
                evaluation = compare(truth, truth.loadRes(str(folder / f"{kind}.json")), kind)
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
                numbers[kind] = [float(value) for value in evaluation.stats[:12]]
        yield "all", numbers

    return run


def split(name: str) -> list[str]:
    """Module and class."""
    return name.rsplit(".", 1)


SIDES = {
    "ours": ours,
    "ours, streamed": streamed,
    "pycocotools": peer("pycocotools.coco.COCO", "pycocotools.cocoeval.COCOeval"),
    "faster-coco-eval": peer("faster_coco_eval.COCO", "faster_coco_eval.COCOeval_faster"),
}
PEERS = ("pycocotools", "faster-coco-eval")


def measure(side: str, folder: Path) -> Record:
    """Seconds of each stage, the most memory that the process had, in megabytes, and the numbers."""
    seconds: dict[str, float] = {}
    numbers: Numbers = {}
    before = time.perf_counter()
    for stage, numbers in SIDES[side](folder):  # noqa: B007
        now = time.perf_counter()
        seconds[stage] = seconds.get(stage, 0.0) + now - before
        before = time.perf_counter()
    return {"seconds": seconds, "memory": peak_memory(), "numbers": numbers}


def peak_memory() -> float:
    """Of this program; `getrusage` would also know the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def in_process(side: str, folder: Path) -> Record:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    record: Record = json.loads(done.stdout)
    return record


def difference(one: Numbers, other: Numbers) -> float:
    """The largest between two times twenty-four numbers; -1 stands where there is nothing to score."""
    pairs = [
        (-1.0 if a is None else a, -1.0 if b is None else b)
        for kind in ("bbox", "segm")
        for a, b in zip(one[kind], other[kind], strict=True)
    ]
    return max(abs(a - b) for a, b in pairs)


def table(runs: dict[str, list[Record]]) -> list[Record]:
    """Medians of each side; of the streamed one also of what comes after the last batch."""
    seconds = {side: median(total(run) for run in mine) for side, mine in runs.items()}
    rows: list[Record] = []
    for side, mine in runs.items():
        memory = round(median(run["memory"] for run in mine))
        ratios = {f"{name} / it": seconds[name] / seconds[side] for name in PEERS if name in seconds and name != side}
        rows.append({"side": side, "seconds": seconds[side], "peak MB": memory, **ratios})
    after = median(run["seconds"]["afterwards"] for run in runs["ours, streamed"])
    rows.insert(2, {"side": "of it after the last batch", "seconds": after})
    return rows


def total(run: Record) -> float:
    """Without what is not the evaluation's."""
    return sum(seconds for stage, seconds in run["seconds"].items() if stage not in ("ready", "reading"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument(
        "--side", choices=SIDES, help="measure this one alone, in this process, on the files in --folder"
    )
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.folder)))
        return
    run_all(args.images, args.repeats, args.out)


def run_all(num_images: int, repeats: int, out: Path | None) -> None:
    """Print the table and add it to the results."""
    # Here, because the processes that are measured need no torch.
    import torch

    from maskrcnn.bench import results
    from maskrcnn.bench.machine import facts

    sides = [side for side in SIDES if side not in PEERS or find_spec(side.replace("-", "_"))]
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), num_images)
        in_process("ours", Path(name))  # compiles kernels
        runs: dict[str, list[Record]] = {side: [] for side in sides}
        for _ in range(repeats):
            for side, mine in runs.items():
                mine.append(in_process(side, Path(name)))
    apart = {side: difference(runs["ours"][0]["numbers"], mine[0]["numbers"]) for side, mine in runs.items()}
    notes = [
        f"the 24 numbers of {side} and ours differ by {value:.2g} at most"
        for side, value in apart.items()
        if side != "ours"
    ]
    notes.append("memory is of the whole process; the streamed side reads its batches outside the clock")
    title = f"Box and mask metrics of {num_images:,} images x {NUM_FOUND} results, {repeats} runs"
    section = results.Section("evaluation", title, facts(torch.device("cpu")), table(runs), notes)
    print(results.described(section))
    results.add(out or results.default_folder(), [section])


if __name__ == "__main__":
    main()
