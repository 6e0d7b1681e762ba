"""Names in the folders that are written: of a run, of an evaluation, of predictions, of weights."""

from collections.abc import Collection

RUNS = "runs"
"""The folder in which commands write where nothing is said."""
RESULTS_IN = {"train", "eval", "predict", "data", "demo", "bench"}
"""Folders in it, one for each command."""
CONFIG = "config.yml"
"""The resolved recipe, in a run, an evaluation, and beside weights."""
LOG = "log.txt"
"""What a run said."""
HISTORY = "metrics.jsonl"
"""Losses and scores of a run, a line for each window of steps and each evaluation."""
RESULTS = "results.csv"
"""Scores of a run, a row for each evaluation."""
CHECKPOINTS = "checkpoints"
"""The folder of a run's `step-<n>/`."""
STATE = "state.json"
"""What makes a checkpoint complete: written last, with the size and SHA-256 of its other files."""
JOB = ".job"
"""The id of the launcher's job, where it may start a run again by itself."""
EVALUATION = "evaluation"
"""The folder of a run's newest evaluation."""
REPORT = "report.html"
"""A run or an evaluation on one page."""

METRICS = "metrics.json"
"""Scores, of an evaluation or beside weights."""
DETAILS = "details.json"
"""Curves and errors of an evaluation, which the report draws."""
PREDICTIONS = "predictions.json"
"""COCO results, of an evaluation or of predictions."""
PARTIAL = "predictions.partial.json"
"""The same of some of the images: what was found until a signal stopped it."""
SKIPPED = "skipped.jsonl"
"""Training images that could not be read, where `data.skip_unreadable` lets a run go on without them."""

WEIGHTS = "weights"
"""The folder of a run's weights folders."""
BEST, LAST = f"{WEIGHTS}/best", f"{WEIGHTS}/last"
"""Weights folders of a run: of the highest score, and of the newest step."""
MODEL = "model.safetensors"
"""The tensors of a weights folder."""
CHECKSUMS = "checksums.json"
"""Size and SHA-256 of the other files of a weights folder, and of itself."""
AVERAGE = "average.safetensors"
"""Their moving average, in a checkpoint of a run that keeps one."""

PLAN = "plan.yml"
"""The recipe that was made for a folder of data, each choice with its reason."""
SPLIT = "split.json"
"""Which images a run learns from and which were set apart for validation."""

OWN = {CHECKPOINTS, LOG, HISTORY, METRICS, MODEL, REPORT, PLAN, WEIGHTS}
"""Names of which one lies beside the recipe in a folder that was written."""


def is_run(names: Collection[str]) -> bool:
    """Whether a folder of these names is a run, an evaluation or weights; a recipe that lies among data is none.

    >>> is_run({"config.yml"}), is_run({"config.yml", "weights"}), is_run({"config.yml", "images"}), is_run(set())
    (True, True, False, False)
    """
    return CONFIG in names and (len(names) == 1 or not OWN.isdisjoint(names))
