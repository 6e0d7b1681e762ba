"""What an evaluation leaves in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import json

from maskrcnn.checksums import write_checksums
from maskrcnn.evaluate.coco import Metrics
from maskrcnn.files import atomic_write
from maskrcnn.run_folder import CHECKSUMS, DETAILS, METRICS, PARTIAL, PREDICTIONS

IN_DETAILS = ("curves", "errors", "confusion", "images")
"""Long entries of the metrics, which the report draws and people do not read."""


def save(folder: Path, metrics: Metrics, predictions: Mapping[int, bytes]) -> None:
    """Write metrics.json, details.json (what the report draws) and predictions.json (COCO results), and their sums.

    predictions   of each image, as JSON without brackets
    """
    _write_metrics(folder, metrics)
    _write(folder / PREDICTIONS, predictions)
    write_checksums(folder, [METRICS, DETAILS, PREDICTIONS])
    for part in (folder / PARTIAL, *folder.glob(part_of("*"))):
        part.unlink(missing_ok=True)


def save_part(folder: Path, rank: int, predictions: Mapping[int, bytes]) -> Path:
    """Write what one process had found when it was stopped, under a name that nobody takes for the whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (part_of(rank) if rank else PARTIAL)
    _write(path, predictions)
    return path


def part_of(rank: int | str) -> str:
    """The name of what another process than the first had found.

    >>> part_of(3)
    'predictions.partial-3.json'
    """
    return PARTIAL.replace(".partial", f".partial-{rank}")


def _write(path: Path, predictions: Mapping[int, bytes]) -> None:
    with atomic_write(path) as draft, draft.open("wb") as file:
        file.write(b"[")
        parts = (predictions[number] for number in sorted(predictions) if predictions[number])
        for index, part in enumerate(parts):
            file.writelines([b"," * (index > 0), part])
        file.write(b"]")


def save_metrics(folder: Path, metrics: Metrics) -> None:
    """Write metrics.json and details.json, and their sums."""
    _write_metrics(folder, metrics)
    write_checksums(folder, [METRICS, DETAILS])


def _write_metrics(folder: Path, metrics: Metrics) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKSUMS).unlink(missing_ok=True)  # of an earlier evaluation: a crash leaves none rather than those
    details = {name: value for name, value in metrics.items() if name in IN_DETAILS}
    contents = {METRICS: json.format(json.encode(short(metrics)), indent=1) + b"\n", DETAILS: json.encode(details)}
    for name, content in contents.items():
        with atomic_write(folder / name, needed=len(content)) as draft:
            draft.write_bytes(content)


def short(metrics: Metrics) -> dict[str, Any]:
    """The metrics that people read."""
    return {name: value for name, value in metrics.items() if name not in IN_DETAILS}
