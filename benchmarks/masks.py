"""From mask probabilities to COCO's run lengths and to outlines with holes, beside ways that go over whole bitmaps.

Run lengths: `grid_sample` inside each box, as Detectron2 pastes, and torchvision's own pasting, both encoded with
pycocotools. Outlines: pycocotools' bitmaps, whose cracks numpy finds and Python follows. One core; all peers but
torchvision's give the same masks, and whether they do is counted.

    python benchmarks/masks.py [--out DIR]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco
from torch.nn.functional import grid_sample

from maskrcnn.bench import results
from maskrcnn.bench.machine import facts
from maskrcnn.bench.timing import in_turns
from maskrcnn.ops.paste import paste_outlines, paste_rle

REPOSITORY = Path(__file__).parents[1]
CELLS, THRESHOLD = 28, 0.5
KINDS = {"blobs": 0.5, "ragged blobs": 3.0, "noise": None}
"""Noise that is added to the logits of round shapes; None is nothing but noise."""

Case = tuple[torch.Tensor, torch.Tensor, int, int]


def make_case(kind: str, number: int, height: int, width: int) -> Case:
    """Probabilities, and boxes whose sizes spread as COCO's: about 4 in 10 below 32 x 32, a quarter above 96 x 96."""
    random = np.random.default_rng(0)
    side = np.exp(random.normal(np.log(45), 0.95, number)).clip(6, 0.95 * height)
    shape = np.exp(random.normal(0, 0.2, number))
    sides = np.stack([side * shape, side / shape], axis=1).clip(4, [width, height])
    low = random.uniform(0, 1, sides.shape) * ([width, height] - sides)
    boxes = torch.from_numpy(np.concatenate([low, low + sides], axis=1).astype(np.float32))
    noise = KINDS[kind]
    if noise is None:
        return torch.from_numpy(random.random((number, CELLS, CELLS), np.float32)), boxes, height, width
    y, x = np.mgrid[:CELLS, :CELLS] / (CELLS - 1) - 0.5
    waves, turns = random.normal(0, 0.04, (number, 5, 1, 1)), random.uniform(0, 2 * np.pi, (number, 5, 1, 1))
    radius = 0.42 + (waves * np.cos(np.arange(2, 7)[:, None, None] * np.arctan2(y, x) + turns)).sum(axis=1)
    logits = 20 * (radius - np.hypot(y, x)) + random.normal(0, noise, radius.shape)
    return torch.from_numpy((1 / (1 + np.exp(-logits))).astype(np.float32)), boxes, height, width


def ours(case: Case) -> list[str]:
    probabilities, boxes, height, width = case
    return [rle["counts"] for rle in paste_rle(probabilities, boxes, height=height, width=width)]


def by_sampling(case: Case) -> list[str]:
    """Each mask is sampled at the pixels of its box, written to a bitmap of the image and encoded."""
    probabilities, boxes, height, width = case
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    low = (boxes[:, :2].floor() - 1).clamp(min=0).long().tolist()
    high = (boxes[:, 2:].ceil() + 1).long().tolist()
    for mask, grid, box, (left, top), (right, bottom) in zip(masks, probabilities, boxes, low, high, strict=True):
        x = (torch.arange(left, min(right, width)) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (torch.arange(top, min(bottom, height)) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        points = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=2)
        values = grid_sample(grid[None, None], points[None], align_corners=False)[0, 0]
        mask[top:bottom, left:right] = values >= THRESHOLD
    return encoded(masks)


def by_torchvision(case: Case) -> list[str]:
    """Other masks: boxes are whole pixels there."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    probabilities, boxes, height, width = case
    pasted = paste_masks_in_image(probabilities[:, None], boxes, (height, width))
    return encoded((pasted[:, 0] >= THRESHOLD).to(torch.uint8))


def encoded(masks: torch.Tensor) -> list[str]:
    return [rle["counts"].decode() for rle in coco.encode(np.asfortranarray(masks.numpy().transpose(1, 2, 0)))]


def our_outlines(case: Case) -> list[list[list[np.ndarray]]]:
    probabilities, boxes, height, width = case
    return paste_outlines(probabilities, boxes, height=height, width=width)


def outlines_of_bitmaps(strings: list[str], height: int, width: int) -> list[list[np.ndarray]]:
    """The rings of each mask, in any order and without saying which hole belongs to which body."""
    return [rings_of(coco.decode({"size": [height, width], "counts": string})) for string in strings]


def rings_of(mask: np.ndarray) -> list[np.ndarray]:
    """Cracks between pixels, each with the object at its right, followed to where they began."""
    padded = np.pad(mask.astype(np.int8), 1)
    down, across = np.diff(padded, axis=0), np.diff(padded, axis=1)
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for cracks, sign, before, step in (
        (down, 1, (-1, 0), (1, 0)),
        (down, -1, (0, 0), (-1, 0)),
        (across, 1, (0, 0), (0, -1)),
        (across, -1, (0, -1), (0, 1)),
    ):
        for y, x in np.argwhere(cracks == sign).tolist():
            ways.setdefault((x + before[0], y + before[1]), []).append(step)
    rings = []
    while ways:
        start = next(iter(ways))
        rings.append(np.array(follow(ways, start), np.float32))
    return rings


def follow(ways: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> list[tuple[int, int]]:
    """The corners of a ring, whose cracks are taken away. Where two rings meet, each turns right."""
    corners, place, direction, first = [], start, (0, 0), ways[start][0]
    while place in ways:
        right = -direction[1], direction[0]
        if corners and place == start and first == right:
            break
        steps = ways[place]
        step = steps.pop(steps.index(right) if right in steps else 0)
        if not steps:
            del ways[place]
        if step != direction:
            corners.append(place)
        place, direction = (place[0] + step[0], place[1] + step[1]), step
    return corners[len(corners) % 2 :]  # an odd one is a start on a straight crack


def compare(kind: str, number: int, height: int, width: int, repeats: int) -> list[results.Row]:
    """The run lengths and the outlines of one kind of masks."""
    case = make_case(kind, number, height, width)
    strings = ours(case)
    rivals: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(case),
        "grid_sample, pycocotools": lambda: by_sampling(case),
        "torchvision, pycocotools": lambda: by_torchvision(case),
        "our outlines": lambda: our_outlines(case),
        "numpy outlines": lambda: outlines_of_bitmaps(by_sampling(case), height, width),
    }
    spent = in_turns(rivals, torch.device("cpu"), repeats)
    found = {"different masks": sum(one != other for one, other in zip(strings, by_sampling(case), strict=True))}
    runs = sum(len(coco_runs(string, height, width)) for string in strings)
    rings = sum(len(outline) for outlines in our_outlines(case) for outline in outlines)
    return [
        row(f"{kind}, {runs:,} runs", spent, "ours", ("grid_sample, pycocotools", "torchvision, pycocotools")) | found,
        row(f"{kind}, outlines, {rings:,} rings", spent, "our outlines", ("numpy outlines",)),
    ]


def coco_runs(string: str, height: int, width: int) -> np.ndarray:
    """Where the mask changes, down the columns, as pycocotools decodes it."""
    return np.flatnonzero(np.diff(coco.decode({"size": [height, width], "counts": string}).T.ravel(), prepend=0))


def row(masks: str, spent: dict[str, float], mine: str, theirs: tuple[str, ...]) -> results.Row:
    peers: results.Row = {f"{name}, ms": 1000 * spent[name] for name in theirs}
    return {"masks": masks, "ours, ms": 1000 * spent[mine], **peers, "ratio": min(map(spent.get, theirs)) / spent[mine]}


def run(number: int = 100, height: int = 480, width: int = 640, repeats: int = 7) -> results.Section:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for kind in KINDS for row in compare(kind, number, height, width, repeats)]
        known = facts(torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    title = f"{number} masks of {height} x {width} from {CELLS} x {CELLS} probabilities, one core"
    notes = ["the ratio is to the faster peer", "peers' outlines include pasting and encoding, as ours do"]
    return results.Section("masks", title, known, rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    section = run(repeats=args.repeats)
    print(results.described(section))
    print("written to " + " and ".join(map(str, results.add(args.out, [section]))))


if __name__ == "__main__":
    main()
