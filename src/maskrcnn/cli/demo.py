"""`maskrcnn demo`: from nothing to a trained model and a report."""

from pathlib import Path
from typing import Annotated

from typer import Option

from maskrcnn.cli.options import Overrides, writable

NUM_IMAGES = 6
FROM_SCRATCH = "shapes"
"""Recipe that learns the same images from random weights."""


def demo(
    overrides: Overrides = None,
    out: Annotated[Path, Option(help="The run's folder; an interrupted demo goes on.")] = Path("runs/demo"),
) -> None:
    """Draw shapes, learn them, evaluate, predict, and write a report."""
    from maskrcnn.recipes import read_recipe

    recipe = read_recipe("demo", overrides or [])
    writable(out)
    from maskrcnn.data.shapes import generate
    from maskrcnn.evaluate.coco import percent
    from maskrcnn.predict import load
    from maskrcnn.predict_files import predict_paths
    from maskrcnn.report.page import read_metrics
    from maskrcnn.run_folder import BEST, REPORT
    from maskrcnn.train.loop import run as train

    _say(f"1/3 drawing shapes into {recipe.data.dataset_dir}")
    dataset = generate(recipe.data.dataset_dir)
    _say(f"2/3 training and evaluating, into {out}; remove that folder to begin again")
    train(recipe, out, "auto")
    _say("3/3 predicting")
    images = sorted((dataset / recipe.data.val_img_dir).iterdir())[:NUM_IMAGES]
    predict_paths(load(out / BEST), images, out / "predictions")
    metrics = read_metrics(out / BEST)
    _say(f"box AP {percent(metrics['bbox']['AP'])}, mask AP {percent(metrics['segm']['AP'])}")
    _say(f"look at {out / REPORT} and the drawings in {out / 'predictions'}")
    _say(f"the same from scratch, without pretrained features: maskrcnn train {FROM_SCRATCH}")


def _say(sentence: str) -> None:
    print(sentence, flush=True)
