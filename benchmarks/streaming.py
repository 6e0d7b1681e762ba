"""Waiting for images that are read straight from a store, with so much delay before every answer.

A server of its own process answers each request after the latency. Steps are simulated: each keeps the cores busy for
`--step` seconds, as the model's would, then takes the next batch. The share is what the loop waited for batches, of its
whole time, without the first step.

    python benchmarks/streaming.py [--data DIR] [--latency-ms 5] [--step 1.5] [--batch 2] [--steps 40] [--read-ahead N]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from msgspec import structs

from maskrcnn.config import Data
from maskrcnn.data.buckets import buckets_for, plan_epoch, whole_images
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.loader import Loader
from maskrcnn.data.split import open_split
from maskrcnn.files import cache_folder

REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("MASKRCNN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
sys.path.insert(0, str(REPOSITORY / "tests" / "storage"))


def main() -> None:
    options = read_options()
    from object_store import Store

    port = free_port()
    command = [sys.executable, REPOSITORY / "tests/storage/object_store.py", str(port), str(options.latency_ms / 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server, tempfile.TemporaryDirectory() as cache:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            there = Store()
            there.port = port
            (Path(cache) / "kernels").symlink_to(cache_folder() / "kernels")
            os.environ |= {**there.variables(), "MASKRCNN_CACHE": cache}
            upload(options.data)
            for remote in ("stream", "copy"):
                measure(remote, options)
        finally:
            server.kill()


def measure(remote: str, options: argparse.Namespace) -> None:
    """Say how long a loop of simulated steps waited."""
    chosen = Data(dataset_dir="obs://bucket/data", remote=remote, num_workers=options.workers)
    if remote == "stream":
        chosen = structs.replace(chosen, read_ahead=options.read_ahead)
    begin = time.perf_counter()
    data = open_split(chosen, options.split)
    opened = time.perf_counter() - begin
    loader = Loader(data, steps_of(data, chosen, options), chosen)
    count, first, begin = 0, 0.0, 0.0
    for _ in loader:
        if count == 0:
            begin, first = time.perf_counter(), loader.waited_seconds
        work(options.step)
        count += 1
    whole = time.perf_counter() - begin
    waited = loader.waited_seconds - first
    print(
        f"{remote}: opened in {opened:.2f} s, first batch after {first:.2f} s, then {count} steps of {options.batch} "
        f"images in {whole:.2f} s, {1000 * waited / count:.1f} ms waited each: {waited / whole:.1%}",
        flush=True,
    )


def steps_of(data: Dataset, chosen: Data, options: argparse.Namespace) -> list:
    buckets, found = buckets_for(data.sizes, chosen, chosen.short_sides), []
    for epoch in range(1000):
        found += plan_epoch(whole_images(data.sizes), chosen, buckets, batch=options.batch, seed=1, epoch=epoch)
        if len(found) >= options.steps:
            return found[: options.steps]
    raise ValueError(f"expected more images than {len(data.sizes)} for batches of {options.batch}")


def work(seconds: float) -> None:
    """Keep the cores busy, as a step does."""
    end, matrix = time.perf_counter() + seconds, torch.ones(512, 512)
    while time.perf_counter() < end:
        matrix @ matrix


def upload(folder: Path) -> None:
    import obstore

    from maskrcnn.storage.location import at
    from maskrcnn.storage.store import open_store

    store, _ = open_store(at("obs://bucket/data"))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            obstore.put(store, f"data/{path.relative_to(folder).as_posix()}", path.read_bytes())


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "coco_mini", help="a folder in the COCO2017 layout")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--latency-ms", type=float, default=5.0)
    parser.add_argument("--step", type=float, default=1.5, help="seconds of a simulated step")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--read-ahead", type=int, default=Data().read_ahead)
    return parser.parse_args()


if __name__ == "__main__":
    main()
