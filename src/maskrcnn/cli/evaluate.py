"""`maskrcnn eval`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from maskrcnn.cli.words import Overrides


def evaluate(
    config: Annotated[
        str | None, Argument(metavar="CONFIG", help="A recipe: its validation pictures are used.")
    ] = None,
    overrides: Overrides = None,
    weights: Annotated[Path | None, Option(help="A weights folder or file.")] = None,
    annotations: Annotated[Path | None, Option(help="With --predictions: a COCO annotation file.")] = None,
    predictions: Annotated[Path | None, Option(help="With --annotations: a COCO result file to score.")] = None,
    out: Annotated[Path | None, Option(help="Where metrics.json goes; runs/eval/NAME with a recipe.")] = None,
) -> None:
    """Score weights on a recipe's validation pictures, or a result file on its annotations."""
    if config and weights and not (annotations or predictions):
        score_weights(config, overrides or [], weights, out)
    elif annotations and predictions and not (config or weights):
        score_predictions(annotations, predictions, out)
    else:
        raise ValueError("expected CONFIG with --weights PATH, or --annotations FILE with --predictions FILE")


def score_weights(config: str, overrides: list[str], weights: Path, out: Path | None) -> None:
    """Predict, write metrics.json and predictions.json, and print the twelve numbers."""
    from maskrcnn.recipes import read_recipe

    recipe = read_recipe(config, overrides)
    from maskrcnn.evaluate import run

    folder = out or Path("runs/eval") / recipe.name
    metrics = run.run(recipe, weights, folder)
    if metrics:  # only the first of several processes has them
        show(metrics, folder)


def score_predictions(annotations: Path, predictions: Path, out: Path | None) -> None:
    """Score a result file of any maker."""
    from msgspec import json

    from maskrcnn.evaluate.coco import score_files

    metrics = score_files(annotations, predictions)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.json").write_bytes(json.format(json.encode(metrics)))
    show(metrics, out)


def show(metrics: Any, folder: Path | None) -> None:
    """The twelve numbers, the speed where it was measured, and where the rest lies."""
    from maskrcnn.evaluate.coco import table

    print(table(metrics))
    if "speed" in metrics:
        speed = metrics["speed"]
        print(f"{speed['predict']:.2f} images/s predicting, {speed['evaluate']:.2f} images/s in all")
    if folder:
        print(f"written to {folder}")
