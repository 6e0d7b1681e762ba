"""A picture far larger than memory likes, in tiles: what training reads of it, what prediction takes, what it misses.

Ellipses, every tenth of them longer than tiles overlap, lie on noise, in TIFF files of strips. A small network learns
from some pictures of moderate size, tile by tile, and predicts a large one in a process of its own, whose peak of
memory is told. Recall is told of objects that the border of a tile cuts, and of the others.

    python benchmarks/tiles.py [--side 10000] [--objects 5000] [--steps 400] [--out DIR]
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

TILE, OVERLAP, SHOWN = 512, 0.2, 256
"""Side of a tile in pixels of the picture, its overlap, and its side as the network sees it."""
LEARNT = 2048, 6
"""Side and number of the pictures that are learnt from."""
ROWS = 64
"""Rows of a strip."""
FOUND = 0.5
"""IoU of masks from which on an object is found, and the least score."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10000)
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/tiles"))
    parser.add_argument("--predict", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        predict(options.out)
        return
    random = np.random.default_rng(0)
    options.out.mkdir(parents=True, exist_ok=True)
    density = options.objects / options.side**2
    small = [
        picture(random, options.out / f"{number}.tif", LEARNT[0], round(density * LEARNT[0] ** 2))
        for number in range(LEARNT[1])
    ]
    write_annotations(options.out / "small.json", small)
    large = picture(random, options.out / "large.tif", options.side, options.objects)
    read_an_epoch(options.out)
    learn(options.out, options.steps)
    command = [sys.executable, __file__, "--predict", "--out", str(options.out)]
    subprocess.run(command, check=True)
    tell_recall(options.out, large)


def picture(random: np.random.Generator, path: Path, side: int, number: int) -> dict:
    """Draw a picture; gives its file, side and outlines."""
    cells = math.ceil(math.sqrt(number))
    cell = side / cells
    pixels = np.empty((side, side, 3), np.uint8)
    for row in range(0, side, 1000):  # by parts: noise in float64 has eight times the bytes
        pixels[row : row + 1000] = 90 + random.integers(0, 40, (min(1000, side - row), side, 1))
    outlines = []
    for index in random.permutation(cells**2)[:number].tolist():
        middle = (np.array(divmod(index, cells))[::-1] + 0.5) * cell + random.uniform(-0.1, 0.1, 2) * cell
        outlines.append(ellipse(random, middle, cell, is_long=len(outlines) % 10 == 0))
        paint(pixels, outlines[-1], random.integers(160, 256, 3))
    Image.fromarray(pixels).save(path, compression="tiff_adobe_deflate", tiffinfo={278: ROWS})
    return {"file_name": path.name, "side": side, "outlines": outlines}


def ellipse(random: np.random.Generator, middle: np.ndarray, cell: float, *, is_long: bool) -> np.ndarray:
    """A ring of points (x, y); a long one lies along a row or a column, where its neighbours leave room."""
    angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    half = np.array([0.48, 0.1]) * cell if is_long else random.uniform(0.14, 0.3, 2) * cell
    turn = random.uniform(0, math.pi)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half
    return ring @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) + middle


def paint(pixels: np.ndarray, ring: np.ndarray, color: np.ndarray) -> None:
    low, high = np.floor(ring.min(axis=0)).astype(int).clip(0), np.ceil(ring.max(axis=0)).astype(int) + 1
    crop = pixels[low[1] : high[1], low[0] : high[0]]
    crop[outline_mask(ring - low, crop.shape[:2])] = color


def outline_mask(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.new("1", size[::-1])
    ImageDraw.Draw(image).polygon([tuple(point) for point in (ring - 0.5).tolist()], fill=1)
    return np.asarray(image)


def write_annotations(path: Path, pictures: list[dict]) -> None:
    images, annotations = [], []
    for number, one in enumerate(pictures, 1):
        side = one["side"]
        images.append({"id": number, "file_name": one["file_name"], "height": side, "width": side})
        for ring in one["outlines"]:
            low, high = ring.min(axis=0).clip(0), ring.max(axis=0).clip(None, side)
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            entry |= {"bbox": [*low.tolist(), *(high - low).tolist()], "area": float((high - low).prod()) * math.pi / 4}
            annotations.append(entry | {"segmentation": [ring.ravel().tolist()]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "ellipse"}]}
    path.write_text(json.dumps(content), encoding="utf-8")


def settings(folder: Path) -> dict:
    """Settings of the data, by their dotted paths."""
    return {
        "data.dataset_dir": str(folder),
        "data.train_img_dir": ".",
        "data.val_img_dir": ".",
        "data.train_anno_path": "small.json",
        "data.val_anno_path": "small.json",
        "data.tile": TILE,
        "data.tile_overlap": OVERLAP,
        "data.short_sides": [SHOWN],
        "data.max_side": SHOWN,
    }


def read_an_epoch(folder: Path) -> None:
    """Say how many bytes and how much time the tiles of an epoch take, and whole pictures would take."""
    from maskrcnn.config import Data
    from maskrcnn.data.buckets import plan_epoch, whole_images
    from maskrcnn.data.decode import decode
    from maskrcnn.data.formats import coco
    from maskrcnn.data.loader import Loader
    from maskrcnn.data.tiles import cut_data

    data = Data(tile=TILE, tile_overlap=OVERLAP, short_sides=(SHOWN,), max_side=SHOWN, num_workers=0)
    tiles = cut_data(coco.read(folder / "small.json", folder), data)
    steps = plan_epoch(whole_images(tiles.sizes), data, [(SHOWN, SHOWN)], batch=4, seed=0, epoch=0)
    before, begin = bytes_read(), time.perf_counter()
    number = sum(len(batch.image_ids) for batch in Loader(tiles, steps, data))
    seconds, taken = (time.perf_counter() - begin) / number, (bytes_read() - before) / number
    size = np.mean([(folder / name).stat().st_size for name in set(tiles.file_names)])
    begin = time.perf_counter()
    decode(folder / tiles.file_names[0], max_rowsize=None)
    whole = time.perf_counter() - begin
    print(f"a tile of {number}: {taken / 1e6:.2f} MB read, {1000 * seconds:.0f} ms")
    print(f"a whole picture: {size / 1e6:.2f} MB, {1000 * whole:.0f} ms")


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])


def learn(folder: Path, steps: int) -> None:
    from maskrcnn.recipes import read_recipe
    from maskrcnn.recipes.adopt import with_settings
    from maskrcnn.train.loop import run

    begin = time.perf_counter()
    wanted = settings(folder) | {"train.max_steps": steps, "train.epochs": 999, "train.evaluate_every": 0}
    wanted |= {"train.log_every": 50, "data.num_buckets": 1, "device": "cpu"}
    run(with_settings(read_recipe("shapes"), wanted, "tiles"), folder / "run")
    print(f"trained {steps} steps in {time.perf_counter() - begin:.0f} s")


def predict(folder: Path) -> None:
    """Predict the large picture, draw and list what is found, and say what that took."""
    import maskrcnn
    from maskrcnn.predict_files import predict_paths

    model = maskrcnn.load(folder / "run" / "weights" / "last", device="cpu")
    begin = time.perf_counter()
    failures = predict_paths(model, [folder / "large.tif"], folder / "found", FOUND)
    assert not failures, failures
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"predicted, drawn and listed in {time.perf_counter() - begin:.0f} s; peak of memory {peak:.2f} GiB")


def tell_recall(folder: Path, large: dict) -> None:
    """Say how many objects were found, of those that tiles cut and of the others, and how many more were told."""
    from maskrcnn.data.tiles import starts

    entries = json.loads((folder / "found" / "predictions.json").read_text(encoding="utf-8"))
    begins = starts(large["side"], TILE, OVERLAP)
    borders = np.concatenate([begins[1:], begins[:-1] + TILE])
    matched = set(matches(large["outlines"], entries))
    is_cut, is_found = [], []
    for number, ring in enumerate(large["outlines"]):
        low, high = ring.min(axis=0), ring.max(axis=0)
        is_cut.append(any(((borders > low[axis]) & (borders < high[axis])).any() for axis in (0, 1)))
        is_found.append(number in matched)
    cut, found = np.array(is_cut), np.array(is_found)
    print(f"{len(cut)} objects, {len(entries)} results, {len(entries) - found.sum()} of them without an object")
    print(f"recall of the {cut.sum()} on borders of tiles {100 * found[cut].mean():.1f} %")
    print(f"recall of the {(~cut).sum()} others {100 * found[~cut].mean():.1f} %")


def matches(outlines: list[np.ndarray], entries: list[dict]) -> Iterator[int]:
    """Yield the number of each object that a result covers; each result serves one."""
    from maskrcnn.masks import counts_from_string
    from maskrcnn.masks.spans import bitmap_from_spans, spans_from_counts

    middles = np.array([[x + w / 2, y + h / 2] for x, y, w, h in (entry["bbox"] for entry in entries)]).reshape(-1, 2)
    taken: set[int] = set()
    for number, ring in enumerate(outlines):
        low, high = ring.min(axis=0), ring.max(axis=0)
        near = ((middles > low - 5) & (middles < high + 5)).all(axis=1)
        for index in np.flatnonzero(near).tolist():
            rle = entries[index]["segmentation"]
            left, top = np.floor(low).astype(int).clip(0) - 20
            window = (left, top, *(np.ceil(high).astype(int) + 20).tolist())
            spans = spans_from_counts(counts_from_string(rle["counts"]), rle["size"][0])
            found = bitmap_from_spans(spans, (int(left), int(top), *window[2:]))
            truth = outline_mask(ring - (left, top), found.shape)
            if index not in taken and (found & truth).sum() >= FOUND * (found | truth).sum():
                taken.add(index)
                yield number
                break


if __name__ == "__main__":
    main()
