"""`maskrcnn data check` on photos: headers of all, and with `--deep` the pixels of all.

The photos are small, but their files begin as those of cameras do: with EXIF, a thumbnail and a colour profile, about
30 KB before the pixels, and some are turned by EXIF. Each is its own, with five polygons.

    python benchmarks/check.py [--images 5000] [--cores 2] [--repeats 3] [--out DIR]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from maskrcnn.bench import results
from maskrcnn.bench.machine import facts
from maskrcnn.config import Data
from maskrcnn.data.faults import Faults
from maskrcnn.data.health.check import entries, examine
from maskrcnn.data.split import read_part

REPOSITORY = Path(__file__).parents[1]
WIDTH, HEIGHT = 160, 120
OBJECTS = 5
ORIENTATION, MAKE, COMMENT = 0x0112, 0x010F, 0x9286
PROFILE = bytes(3144)
"""As long as the usual profile of sRGB; what is in it decides no time."""
TARGET = 10.0
"""Seconds within which headers of 5,000 photos are read on two cores."""


def make_photos(folder: Path, number: int) -> Path:
    """Write photos and their annotations in the COCO2017 layout: one in fifty for validation."""
    (folder / "annotations").mkdir(parents=True)
    first_val = number - max(1, number // 50)
    for name, ids in (("train2017", range(first_val)), ("val2017", range(first_val, number))):
        (folder / name).mkdir()
        for id in ids:
            (folder / name / f"{id}.jpg").write_bytes(photo(id))
        images = [{"id": id, "file_name": f"{id}.jpg", "height": HEIGHT, "width": WIDTH} for id in ids]
        content = {
            "images": images,
            "annotations": [row for id in ids for row in objects(id)],
            "categories": [{"id": 1, "name": "thing"}],
        }
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return folder


def photo(id: int) -> bytes:
    """The bytes of a JPEG that no other has."""
    random = np.random.default_rng(id)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
    image = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION], exif[COMMENT] = "Camera", 3 if id % 10 == 0 else 1, random.bytes(24_000)
    file = BytesIO()
    image.save(file, "JPEG", quality=90, exif=exif, icc_profile=PROFILE)
    return file.getvalue()


def objects(id: int) -> Iterator[dict[str, Any]]:
    for number in range(OBJECTS):
        x, y = 30 * number + id % 7, 10 + (id + 13 * number) % 60
        ring = [x, y, x + 20, y, x + 24, y + 20, x + 10, y + 30, x, y + 20]
        yield {
            "id": OBJECTS * id + number,
            "image_id": id,
            "category_id": 1,
            "bbox": [x, y, 24, 30],
            "iscrowd": 0,
            "segmentation": [ring],
        }


def seconds(folder: Path, *, deep: bool) -> tuple[float, int]:
    """(seconds of a check from the annotation files on, number of kinds of fault that are told)."""
    begin = time.perf_counter()
    settings = Data(dataset_dir=str(folder))
    faults = {"train": Faults(), "val": Faults()}
    datasets = {split: data for split in ("train", "val") if (data := read_part(settings, split, faults[split]))}
    found = entries(examine(datasets, faults, {}, deep=deep))
    return time.perf_counter() - begin, len(found)


def run(number: int, repeats: int) -> results.Section:
    with tempfile.TemporaryDirectory() as name:
        folder = make_photos(Path(name) / "data", number)
        seconds(folder, deep=True)  # compiles, and brings the files into memory
        rows: list[results.Row] = []
        for what, deep in (("headers", False), ("headers and pixels", True)):
            spent = median(seconds(folder, deep=deep)[0] for _ in range(repeats))
            rows.append({"what": what, "seconds": spent, "images/s": number / spent})
    known = facts(torch.device("cpu")) | {"photos": str(number), "objects of each": str(OBJECTS)}
    note = f"Files lie in memory. Asked for: headers of 5,000 photos within {TARGET:g} s on two cores."
    return results.Section("data check", "`maskrcnn data check` on photos", known, rows, [note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    section = run(args.images, args.repeats)
    print(results.described(section))
    print("written to " + " and ".join(map(str, results.add(args.out, [section]))))


if __name__ == "__main__":
    main()
