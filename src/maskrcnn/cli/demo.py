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
    from maskrcnn.evaluate.run import run as evaluate
    from maskrcnn.predict import load, predict_paths
    from maskrcnn.report.page import write_report
    from maskrcnn.run_folder import BEST, EVALUATION
    from maskrcnn.runtime.distributed import start
    from maskrcnn.train.loop import run as train
    from maskrcnn.weights import load_weights

    _say(f"1/4 drawing shapes into {recipe.data.dataset_dir}")
    dataset = generate(recipe.data.dataset_dir)
    _say(f"2/4 training into {out}; remove that folder to begin again")
    train(recipe, out, "auto")
    weights = out / BEST
    _say(f"3/4 evaluating {weights}")
    with start(recipe.device) as world:
        metrics = evaluate(recipe, load_weights(weights), out / EVALUATION, world)
    _say("4/4 predicting")
    images = sorted((dataset / recipe.data.val_img_dir).iterdir())[:NUM_IMAGES]
    predict_paths(load(weights), images, out / "predictions")
    report = write_report(out)
    _say(f"box AP {percent(metrics['bbox']['AP'])}, mask AP {percent(metrics['segm']['AP'])}")
    _say(f"look at {report} and the drawings in {out / 'predictions'}")
    _say(f"the same from scratch, without pretrained features: maskrcnn train {FROM_SCRATCH}")


def _say(sentence: str) -> None:
    print(sentence, flush=True)
