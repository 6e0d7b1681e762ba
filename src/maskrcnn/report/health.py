"""A page about the health of a data set: every kind of fault, with images of those that have it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrcnn.data.dataset import Dataset, keep_objects, select
from maskrcnn.data.faults import Severity
from maskrcnn.data.health.check import Entry, Health
from maskrcnn.data.health.findings import Finding, image_name
from maskrcnn.files import atomic_write
from maskrcnn.report.annotated import draw_annotated, read_pixels
from maskrcnn.report.gallery import LONGEST, embed
from maskrcnn.report.template import render

EACH = 6
"""Images of each kind of fault."""


class Offender(NamedTuple):
    """An image that has a fault, or some of whose objects do."""

    caption: str
    image: str
    """JPEG in a data URI; empty where it cannot be decoded."""
    size: tuple[int, int]
    """(width, height) on the page."""
    reason: str
    """Why it cannot be drawn."""


class Section(NamedTuple):
    """A kind of fault on the page."""

    entry: Entry
    offenders: list[Offender]


def write_page(path: Path, source: str, health: Health, found: Sequence[Entry]) -> Path:
    """Write the page, which needs nothing but itself.

    source   what the person called the data set
    """
    sections = [Section(entry, list(_offenders(health, entry))) for entry in found]
    counts = [(severity, sum(one.kind.severity is severity for one in found)) for severity in reversed(Severity)]
    page = render(
        "health.html.jinja",
        source=source,
        splits=health.datasets,
        counts=counts,
        sections=sections,
        is_deep=health.is_deep,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def _offenders(health: Health, entry: Entry) -> Iterator[Offender]:
    """The first images that have a fault, of each split as many."""
    each = -(-EACH // max(1, len(entry.by_split)))
    for split, finding in entry.by_split.items():
        for image in list(dict.fromkeys(finding.images.tolist()))[:each]:
            yield _offender(split, health.datasets[split], finding, image)


def _offender(split: str, data: Dataset, finding: Finding, image: int) -> Offender:
    caption = f"{split}, image {image_name(data, image)}"
    if len(finding.objects):
        own = finding.objects[finding.images == image]
        caption += ", annotation " + ", ".join(map(str, data.annotation_ids[own[:3]].tolist()))
        caption += f" and {len(own) - 3} more" if len(own) > 3 else ""
        data, image = _alone(data, image, own), 0
    try:
        drawn = draw_annotated(data, image, read_pixels(data, image), (LONGEST, LONGEST))
    except (OSError, ValueError) as error:
        return Offender(caption, "", (0, 0), str(error))
    return Offender(caption, embed(drawn), drawn.size, "")


def _alone(data: Dataset, image: int, objects: np.ndarray) -> Dataset:
    """One image with some of its objects."""
    keep = np.zeros(len(data.labels), bool)
    keep[objects] = True
    return keep_objects(select(data, np.array([image])), keep[data.objects(image)])
