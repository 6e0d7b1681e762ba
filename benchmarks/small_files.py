"""A data set of many small label files: how long the first reading takes, and the next one, which finds it kept.

Draws Labelme files of one object each, beside images that are links to one file, and reads them in a cache of its own.

    python benchmarks/small_files.py [--count 100000] [--folder DIR]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.data.annotations.fingerprint import SETTLED
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import labelme
from maskrcnn.data.formats.source import Folder

HEIGHT, WIDTH = 480, 640
MOST_LINKS = 10_000
"""Names of one file: some file systems allow no more than 65,000."""


def draw(folder: Path, count: int) -> None:
    """Write the label files, and as many images."""
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for index in range(count):
        ring = random.uniform(80, [WIDTH - 80, HEIGHT - 80]) + circle * random.uniform(20, 80, (24, 1))
        shape = {
            "label": f"class {index % 7}",
            "points": ring.round(3).tolist(),
            "group_id": None,
            "shape_type": "polygon",
        }
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [{**shape, "description": "", "flags": {}, "mask": None}],
            "imagePath": f"{index:06d}.jpg",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        (folder / f"{index:06d}.json").write_text(json.dumps(content, indent=2))
        image = folder / f"{index:06d}.jpg"
        if index % MOST_LINKS == 0:
            first = image
            Image.new("RGB", (WIDTH, HEIGHT)).save(image)
        else:
            os.link(first, image)


def read(folder: Path) -> Dataset:
    """Find the data set in a folder and read it."""
    [source] = labelme.find(Folder(folder))
    return labelme.read(source, Faults())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="label files")
    parser.add_argument("--folder", type=Path, help="where to draw them, by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        os.environ["MASKRCNN_CACHE"] = f"{name}/cache"
        folder = Path(name) / "labelme"
        folder.mkdir()
        draw(folder, arguments.count)
        time.sleep(SETTLED + 1)
        for what in ("first", "again", "again"):
            start, cpu = time.perf_counter(), time.process_time()
            data = read(folder)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            print(
                f"{what}: {seconds:.2f} s, {cpu:.2f} s of CPU, {len(data.image_ids)} images, {len(data.labels)} objects"
            )


if __name__ == "__main__":
    main()
