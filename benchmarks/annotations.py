"""Opening an annotation file of COCO's size, beside pycocotools: time, memory, and what each further process costs.

The file is drawn from a seed, with as many images, objects, points and run lengths as COCO's training split. Every
measurement is a process of its own, which had imported its packages before; kernels had been compiled before. The
peer parses in every process that opens the file, so its first and later opens are the same.

    python benchmarks/annotations.py [--images 118000] [--objects 860000] [--out DIR]
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import json
from PIL import Image

from maskrcnn.files import cache_folder

if TYPE_CHECKING:  # a process that is measured imports what it needs and no more
    from maskrcnn.bench.results import Row, Section

REPOSITORY = Path(__file__).parents[1]
MEBIBYTE = 2**20
HEIGHT, WIDTH = 480, 640
MEAN_POINTS, CROWDS, IN_TWO_PARTS = 23, 0.012, 0.1  # of COCO's polygons; shares of its objects
SLICE = 4096  # objects drawn at once
MOST_LINKS = 50_000  # to one file; file systems allow little more
BATCH = 16

Answer = dict[str, float]


def draw_split(folder: Path, images: int, objects: int, seed: int = 0) -> tuple[Path, Path]:
    """An annotation file, and a folder with a grey picture under every name."""
    generator = np.random.default_rng(seed)
    ids = np.sort(generator.choice(6 * images, images, replace=False)) + 1
    annotations, pictures = folder / "instances.json", folder / "pictures"
    pictures.mkdir()
    for number, id in enumerate(ids.tolist()):
        path = pictures / f"{id:012d}.jpg"
        if number % MOST_LINKS == 0:
            Image.new("RGB", (WIDTH, HEIGHT), "grey").save(path)
            source = path
        else:
            os.link(source, path)
    categories = [{"supercategory": "thing", "id": id, "name": f"thing {id}"} for id in range(1, 81)]
    with annotations.open("wb") as stream:
        stream.write(b'{"images":' + json.encode([image(id) for id in ids.tolist()]) + b',"annotations":[')
        for start in range(0, objects, SLICE):
            lines = draw_objects(generator, ids, start + 1, min(SLICE, objects - start))
            stream.write((b",\n" if start else b"") + ",\n".join(lines).encode())
        stream.write(b'],"categories":' + json.encode(categories) + b"}")
    return annotations, pictures


def image(id: int) -> dict[str, Any]:
    return {
        "license": 3,
        "file_name": f"{id:012d}.jpg",
        "coco_url": f"http://images.example.org/train2017/{id:012d}.jpg",
        "height": HEIGHT,
        "width": WIDTH,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://pictures.example.org/8186/{id:010d}_0123456789_z.jpg",
        "id": id,
    }


def draw_objects(generator: np.random.Generator, ids: np.ndarray, first_id: int, count: int) -> Iterator[str]:
    """Blobs around the middle of a box, with two decimals as in COCO; crowds have run lengths."""
    images, labels = generator.choice(ids, count).tolist(), generator.integers(1, 81, count).tolist()
    is_crowd, is_cut = generator.random(count) < CROWDS, generator.random(count) < IN_TWO_PARTS
    numbers = np.maximum(generator.gamma(1.5, MEAN_POINTS / 1.5, count).astype(int), 3)
    stops = np.cumsum(numbers)
    owners, total = np.repeat(np.arange(count), numbers), stops[-1]
    sides = generator.uniform(8, 300, (count, 2))
    corners = generator.random((count, 2)) * ([WIDTH, HEIGHT] - sides)
    angles = 2 * np.pi * (np.arange(total) - (stops - numbers)[owners] + generator.random(total)) / numbers[owners]
    radii = 0.5 * np.sqrt(generator.uniform(0.3, 1, total))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = corners[owners] + sides[owners] * (0.5 + radii[:, None] * directions)
    hundredths = (100 * points).astype(int)
    low, high = (function.reduceat(hundredths, stops - numbers) / 100 for function in (np.minimum, np.maximum))
    texts = [f"{number / 100:g}" for number in hundredths.ravel().tolist()]
    for k in range(count):
        begin, stop = 2 * int(stops[k] - numbers[k]), 2 * int(stops[k])
        middle = begin + int(numbers[k]) // 2 * 2 if is_cut[k] and numbers[k] >= 6 else stop
        parts = [",".join(texts[begin:middle]), *([",".join(texts[middle:stop])] if middle < stop else [])]
        outline, reach = f"[[{'],['.join(parts)}]]", (*low[k], *(high[k] - low[k]))
        if is_crowd[k]:
            outline, reach = draw_runs(generator, corners[k], sides[k])
        box = ",".join(f"{value:.2f}" for value in reach)
        yield (
            f'{{"segmentation": {outline},"area": {0.6 * sides[k].prod()},"iscrowd": {int(is_crowd[k])},'
            f'"image_id": {images[k]},"bbox": [{box}],"category_id": {labels[k]},"id": {first_id + k}}}'
        )


def draw_runs(
    generator: np.random.Generator, corner: np.ndarray, sides: np.ndarray
) -> tuple[str, tuple[int, int, int, int]]:
    """A region that is entered and left once in each of its columns, and its box."""
    width, height = min(WIDTH - 1, int(2 * sides[0])), int(sides[1])
    lengths = (height * generator.uniform(0.3, 0.9, width)).astype(int).clip(1)
    tops = int(corner[1]) + ((height - lengths) * generator.random(width)).astype(int)
    left = int(generator.integers(0, WIDTH - width))
    entered = (left + np.arange(width)) * HEIGHT + tops
    turns = np.stack([entered, entered + lengths], axis=1).ravel()
    counts = np.diff(turns, prepend=0, append=HEIGHT * WIDTH).tolist()
    top, bottom = int(tops.min()), int((tops + lengths).max())
    return f'{{"counts": [{",".join(map(str, counts))}],"size": [{HEIGHT}, {WIDTH}]}}', (left, top, width, bottom - top)


def opener(name: str) -> Callable[[Path, Path], Any]:
    """What opens the file, its packages imported."""
    if name == "ours":
        from maskrcnn.data.formats.coco import read

        return read
    from pycocotools.coco import COCO

    def index(annotations: Path, _: Path) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return COCO(str(annotations))

    return index


def counted(data: Any) -> Answer:
    """What both sides must agree on."""
    if hasattr(data, "anns"):
        return {"images": len(data.imgs), "objects": len(data.anns), "ids": sum(data.anns)}
    return {"images": len(data.image_ids), "objects": len(data.labels), "ids": int(data.annotation_ids.sum())}


def child(name: str, annotations: Path, pictures: Path) -> None:
    """A process that is measured: answers each order with the seconds it took and what it then holds."""
    opened, data = opener(name), None
    for line in sys.stdin:
        order, *marks = line.split()
        begin = time.perf_counter()
        if order == "open":
            data = opened(annotations, pictures)
        for _ in draw_samples(data, [int(mark) for mark in marks]) if order == "draw" else [None]:
            known = counted(data) if data is not None else {}
            print(json.encode({"seconds": time.perf_counter() - begin, **memory(), **known}).decode(), flush=True)


def draw_samples(data: Any, marks: Sequence[int]) -> Iterator[int]:
    """Stops after so many samples of one epoch."""
    from maskrcnn.config import Data
    from maskrcnn.data.buckets import buckets_for, plan_epoch, whole_images
    from maskrcnn.data.loader import Loader

    settings = Data(num_workers=2)
    buckets = buckets_for(data.sizes, settings, settings.short_sides)
    steps = plan_epoch(whole_images(data.sizes), settings, buckets, batch=BATCH, seed=0, epoch=0)
    drawn = (BATCH * number for number, _ in enumerate(Loader(data, steps, settings), 1))
    for mark in marks:
        yield next(number for number in drawn if number >= mark)


def memory() -> Answer:
    """Of this process, in MiB: most ever, now, and what it shares with no other."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    return {
        "peak": int(status["VmHWM"].split()[0]) / 1024,
        "resident": int(status["VmRSS"].split()[0]) / 1024,
        "private": private / 1024,
    }


class Child:
    """A process of this file that does what it is told."""

    def __init__(self, name: str, paths: tuple[Path, Path], cache: Path) -> None:
        words = [sys.executable, __file__, "--child", name, *map(str, paths)]
        pipe = subprocess.PIPE
        kernels = cache / "kernels"
        if not kernels.exists():  # only the first process of a machine compiles
            cache.mkdir(parents=True, exist_ok=True)
            kernels.symlink_to(cache_folder() / "kernels", target_is_directory=True)
        environment = {**os.environ, "MASKRCNN_CACHE": str(cache)}
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.before = self.ask("wait")

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def hear(self) -> Answer:
        assert self.process.stdout is not None
        return json.decode(self.process.stdout.readline())

    def ask(self, order: str) -> Answer:
        self.tell(order)
        return self.hear()

    def end(self) -> None:
        self.process.communicate()


def opened(name: str, paths: tuple[Path, Path], cache: Path) -> Answer:
    """What it takes to open the file in a process of its own."""
    one = Child(name, paths, cache)
    answer = one.ask("open")
    one.end()
    return answer


def compare_opens(paths: tuple[Path, Path], folder: Path, repeats: int) -> "list[Row]":
    """In turns: the first open, a later one, the peer's."""
    opened("ours", paths, folder / "compiling")
    found: dict[str, list[Answer]] = {"first": [], "later": [], "pycocotools": []}
    for number in range(repeats):
        cache = folder / f"cache{number}"
        found["first"].append(opened("ours", paths, cache))
        found["later"].append(opened("ours", paths, cache))
        found["pycocotools"].append(opened("pycocotools", paths, cache))
    for answers in found.values():
        for key in ("images", "objects", "ids"):
            assert {answer[key] for answer in answers} == {found["pycocotools"][0][key]}, key
    middle = {
        name: {key: median(answer[key] for answer in answers) for key in ("seconds", "peak")}
        for name, answers in found.items()
    }
    peer = middle["pycocotools"]
    return [
        {
            "": f"{name} open",
            "seconds": middle[name]["seconds"],
            "pycocotools, seconds": peer["seconds"],
            "ratio of seconds": middle[name]["seconds"] / peer["seconds"],
            "peak, MiB": middle[name]["peak"],
            "pycocotools, peak, MiB": peer["peak"],
            "ratio of peaks": middle[name]["peak"] / peer["peak"],
        }
        for name in ("first", "later")
    ]


def compare_processes(paths: tuple[Path, Path], folder: Path, number: int) -> "list[Row]":
    """Private memory that processes add which open the file at the same instant, where there is no entry and where
    there is one; for the peer that of one process, as many times."""
    alone = Child("pycocotools", paths, folder)
    theirs = number * (alone.ask("open")["private"] - alone.before["private"])
    alone.end()
    rows: list[Row] = []
    for name in ("first", "later"):
        children = [Child("ours", paths, folder / "together") for _ in range(number)]
        for one in children:
            one.tell("open")
        seconds = max(one.hear()["seconds"] for one in children)
        grown = [one.ask("wait")["private"] - one.before["private"] for one in children]
        for one in children:
            one.end()
        rows.append(
            {
                "": f"{name} open, {number} processes at once",
                "seconds": seconds,
                "private, MiB": sum(grown),
                "pycocotools, private, MiB": theirs,
                "ratio": sum(grown) / theirs,
            }
        )
    return rows


def compare_samples(paths: tuple[Path, Path], folder: Path, marks: Sequence[int]) -> "list[Row]":
    """What a process holds after so many pictures of an epoch, its two workers being threads."""
    one = Child("ours", paths, folder / "together")
    one.ask("open")
    one.tell(" ".join(["draw", *map(str, marks)]))
    answers = [one.hear() for _ in marks]
    one.end()
    return [
        {
            "samples drawn": mark,
            "resident, MiB": answer["resident"],
            "private, MiB": answer["private"],
            "ratio to the first": answer["resident"] / answers[0]["resident"],
        }
        for mark, answer in zip(marks, answers, strict=True)
    ]


def run(images: int, objects: int, repeats: int, processes: int, samples: Sequence[int]) -> "list[Section]":
    import torch

    from maskrcnn.bench.machine import facts
    from maskrcnn.bench.results import Section
    from maskrcnn.data.annotations.fingerprint import SETTLED

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = draw_split(folder, images, objects)
        time.sleep(SETTLED + 1)  # a file of an hour ago is what people open
        size = f"{paths[0].stat().st_size / 1e6:.0f} MB"
        known = facts(torch.device("cpu")) | {"images": f"{images:,}", "objects": f"{objects:,}", "file": size}
        tables = {
            "annotations": ("Opening an annotation file", compare_opens(paths, folder, repeats)),
            "annotations, processes": ("Memory of processes that open it", compare_processes(paths, folder, processes)),
            "annotations, samples": ("Memory while samples are drawn", compare_samples(paths, folder, samples)),
        }
        return [Section(key, title, known, rows) for key, (title, rows) in tables.items()]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--objects", type=int, default=860_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 2000, 5000, 10_000])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.child:
        name, *paths = args.child
        return child(name, *map(Path, paths))
    from maskrcnn.bench import results

    sections = run(args.images, args.objects, args.repeats, args.processes, args.samples)
    print("\n\n".join(map(results.described, sections)))
    print("in", *results.add(args.out, sections))


if __name__ == "__main__":
    main()
