"""Predict many images with Ray Data, into one file of the same lines that `maskrcnn predict --shard` and `--join` give.

python deploy/ray_predict.py WEIGHTS SOURCE... --out DIR [--actors 4] [--gpus 1] [--score 0.5] [--device auto]
    [--precision auto]

Each actor loads the weights once. Paths are read by all machines of the cluster: give absolute ones on a shared disk,
or addresses. `predictions.jsonl` is there whole or not at all; where it is there already, nothing is done.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import ray

from maskrcnn.data.sources import find_images
from maskrcnn.predict_shards import landing, num_together, rows_of_group
from maskrcnn.storage.fetch import exists
from maskrcnn.storage.location import at

NAME = "predictions.jsonl"


class Actor:
    """A process with the weights."""

    def __init__(self, weights: str, score: float, device: str, precision: Any, folder: str) -> None:
        from maskrcnn.predict import load

        os.chdir(folder)  # where relative paths begin
        self._predictor, self._score = load(weights, device=device, precision=precision), score

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Give the lines of groups of files."""
        return {"number": list(batch["number"]), "lines": [self._lines(files) for files in batch["files"]]}

    def _lines(self, files: str) -> str:
        paths = [at(file) for file in json.loads(files)]
        found = rows_of_group(self._predictor, paths, self._score)
        return "".join(f"{msgspec.json.encode(row).decode()}\n" for row in found)


def lines_of(files: Sequence[str], options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of all files, in order."""
    size = num_together(len(files))
    groups = [json.dumps(files[start : start + size]) for start in range(0, len(files), size)]
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    items = [{"number": number, "files": group} for number, group in enumerate(groups)]
    done = ray.data.from_items(items).map_batches(
        Actor,
        fn_constructor_args=(options.weights, options.score, options.device, options.precision, os.getcwd()),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_gpus=options.gpus,
    )
    for expected, row in enumerate(done.iter_rows()):
        if row["number"] != expected:
            raise RuntimeError(f"expected group {expected} of the images, received {row['number']}")
        yield row["lines"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict, unless that is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0, help="of each actor")
    parser.add_argument("--score", type=float, default=0.5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args(arguments)
    place = at(options.out)
    if exists(place / NAME):
        print(f"done: {place / NAME} is there; remove it to have it predicted anew")
        return
    files = [str(path) for path in find_images(options.sources)]
    with landing(place, NAME) as stream:
        for lines in lines_of(files, options):
            stream.write(lines.encode())
    print(f"{len(files)} files predicted; written to {place / NAME}")


if __name__ == "__main__":
    main()
