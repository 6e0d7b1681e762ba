"""`maskrcnn bench`: train, predict, eval, ops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Option

from maskrcnn.cli.options import Config, DataOverrides, Overrides, writable

Batch = Annotated[int, Option(min=1, help="Images at once.")]
Repeats = Annotated[int, Option(min=1, help="Measurements behind each median; do not rely on fewer than five.")]
Batches = Annotated[int, Option(min=1, help="Batches; images are repeated where there are fewer.")]
Bucket = Annotated[str, Option(metavar="HxW", help="Padded size; the most frequent one unless given.")]
Peer = Annotated[bool, Option("--peer/--no-peer", help="Beside torchvision, where it is installed.")]
Out = Annotated[
    Path | None, Option(help="Where the numbers go; benchmarks/results in the repository, otherwise runs/bench.")
]


def train(
    config: Config,
    overrides: DataOverrides = None,
    batch: Batch = 12,
    repeats: Repeats = 20,
    bucket: Bucket = "",
    peer: Peer = True,
    out: Out = None,
) -> None:
    """Time a training step, part by part and whole."""
    _measure("train", config, overrides, out, batch, repeats, bucket, peer)


def predict(
    config: Config,
    overrides: DataOverrides = None,
    batch: Batch = 12,
    repeats: Repeats = 20,
    bucket: Bucket = "",
    peer: Peer = True,
    out: Out = None,
) -> None:
    """Time a prediction, stage by stage, whole, and of one image."""
    _measure("predict", config, overrides, out, batch, repeats, bucket, peer)


def evaluate(
    config: Config,
    overrides: DataOverrides = None,
    batch: Batch = 12,
    repeats: Batches = 20,
    peer: Peer = True,
    out: Out = None,
) -> None:
    """Time an evaluation, from image files to scores."""
    _measure("eval", config, overrides, out, batch, repeats, "", peer)


def ops(
    config: Config,
    overrides: Overrides = None,
    batch: Batch = 12,
    repeats: Repeats = 20,
    bucket: Bucket = "",
    out: Out = None,
) -> None:
    """Time each operator at the sizes of a recipe; needs no data set."""
    _measure("ops", config, overrides, out, batch, repeats, bucket, False)


def _measure(
    verb: str,
    config: str,
    overrides: Sequence[str] | None,
    out: Path | None,
    batch: int,
    repeats: int,
    bucket: str,
    peer: bool,
) -> None:
    """Run one benchmark; print its tables and add them to the day's."""
    from maskrcnn.recipes import read_recipe

    recipe = read_recipe(config, overrides or ())  # first: a mistake in it is told before torch is imported
    from maskrcnn.bench import evaluate, ops, predict, results, train
    from maskrcnn.bench.batches import read_bucket
    from maskrcnn.bench.setup import Options

    folder = writable(out or results.default_folder())
    options = Options(batch, repeats, read_bucket(bucket) if bucket else None, peer)
    run = {"train": train.run, "predict": predict.run, "eval": evaluate.run, "ops": ops.run}[verb]
    sections = run(recipe, options)
    print("\n\n".join(results.described(section) for section in sections))
    print("\nwritten to " + " and ".join(map(str, results.add(folder, sections))))
