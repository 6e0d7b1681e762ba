"""A repaired copy of a data set, and the list of what was done."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.data.formats import coco_layout
from maskrcnn.data.health.check import NOTHING_READ, UNREAD, Health
from maskrcnn.data.health.repair import Repair, repair
from maskrcnn.data.not_read import REPAIRS
from maskrcnn.files import filling

TEXT, CONTENT = "repairs.txt", REPAIRS
"""Names of the lists in the copy's folder."""


def write_repaired(health: Health, dest: Path) -> list[str]:
    """Write all splits, repaired, in the COCO2017 layout, and give a sentence for each repair.

    Raises ValueError where the folder holds something already, where a split is there and cannot be read, and where no
    image of one can be used.
    """
    if dest.is_dir() and any(dest.iterdir()):
        raise ValueError(f"{dest} is not empty; name a new folder for the repaired copy")
    if problem := why_no_copy(health):
        raise ValueError(problem)
    splits, done = repair(health)
    with filling(dest):
        lost = [f"lost: {sentence}" for sentence in coco_layout.write(splits, dest)]
        lines = [*(str(one) for one in done), *lost] or ["nothing was repaired"]
        (dest / TEXT).write_text("\n".join(lines) + "\n", encoding="utf-8")
        (dest / CONTENT).write_text(json.dumps(_content(done), ensure_ascii=False, indent=1), encoding="utf-8")
    return lines


def why_no_copy(health: Health) -> str:
    """Why no copy can be written: a split that is there and cannot be read would be missing; else the empty text."""
    for split, findings in health.findings.items():
        for finding in findings:
            if finding.kind is NOTHING_READ:
                return f"no copy was written, for nothing can be read: {finding.sentence}"
            if finding.kind is UNREAD:
                lacking = f"no copy was written, for it would lack the {split} split"
                return f"{lacking}, which cannot be read: {finding.sentence}"
    return ""


def _content(done: Sequence[Repair]) -> list[dict[str, Any]]:
    return [
        {
            "split": one.split,
            "kind": one.finding.kind.name,
            "count": one.finding.count,
            "done": one.done,
            "examples": list(one.finding.examples),
        }
        for one in done
    ]
