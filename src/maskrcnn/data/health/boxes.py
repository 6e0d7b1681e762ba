"""Boxes against the outlines and the images that they belong to."""

import numpy as np
from jaxtyping import Bool, Float32, Num

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.health.findings import of_objects
from maskrcnn.data.statistics import owners_of_rings
from maskrcnn.masks.bounds import bounds

CORNERS = Kind(
    "boxes-as-corners",
    "objects",
    Severity.WARNING,
    "have a box that fits when read as corners x1, y1, x2, y2; COCO writes x, y, width, height",
    "the outline's box is written, and where there is none the box with these corners",
)
FRACTIONS = Kind(
    "boxes-as-fractions",
    "objects",
    Severity.WARNING,
    "have a box between 0 and 1, as parts of the image's size; COCO writes pixels",
    "they are multiplied by the size, and so are outlines between 0 and 1",
)
AWAY = Kind(
    "boxes-beside-outlines",
    "objects",
    Severity.WARNING,
    "have a box that does not fit their outline",
    "the outline's box is written",
)
BEYOND = Kind(
    "boxes-beyond-image",
    "objects",
    Severity.WARNING,
    "have a box that leaves their image",
    "they are cut to the image, and so are outlines",
)
NEAR, NEAR_SHARE = 2.0, 0.1
"""Pixels by which a box may miss its outline or leave its image, and the share of the outline's longer side."""
LEAST_SIDE = 8
"""Pixels of an image in which a box of less than one pixel is no fraction of it."""
MOST = 0.5
"""Share of the boxes without outlines from which on those between 0 and 1 are taken for fractions."""

Boxes = Num[np.ndarray, "n 4"]


def report_boxes(data: Dataset, faults: Faults) -> None:
    """Report boxes that do not fit their outlines or leave their images."""
    for kind, chosen in box_misfits(data):
        for finding in of_objects(kind, data, np.flatnonzero(chosen)):
            faults.add(kind, finding.examples, count=finding.count)


def box_misfits(data: Dataset) -> list[tuple[Kind, Bool[np.ndarray, " O"]]]:
    """What can be wrong with boxes beside outlines and images, and which objects have it: one of these at most."""
    boxes, sizes, stated = data.boxes, data.sizes[data.owners], data.boxes_xywh()
    frames = np.concatenate([np.zeros_like(sizes), sizes[:, ::-1]], axis=1)
    outlines, is_bare = outline_boxes(data), (data.flags & Flag.NO_OUTLINE) != 0
    beyond = ~_within(boxes, frames)
    misfits = ~is_bare & ~_fit(boxes, outlines)
    suspects = misfits | beyond | (boxes[:, 2:] <= 1).all(axis=1)
    if not suspects.any():
        return [(kind, suspects) for kind in (CORNERS, FRACTIONS, AWAY, BEYOND)]
    fractions = (boxes >= 0).all(axis=1) & (boxes[:, 2:] <= 1).all(axis=1) & (sizes.min(axis=1) >= LEAST_SIDE)
    if np.count_nonzero(fractions) < MOST * len(boxes):
        fractions &= misfits & _fit(boxes * np.tile(sizes[:, ::-1], 2), outlines)
    as_corners = (stated[:, 2:] > stated[:, :2]).all(axis=1) & ~fractions
    as_corners &= np.where(is_bare, beyond & _within(stated, frames), misfits & _fit(stated, outlines))
    away = misfits & ~fractions & ~as_corners
    beyond &= ~fractions & ~as_corners & ~away & data.learnt
    return [(CORNERS, as_corners), (FRACTIONS, fractions), (AWAY, away), (BEYOND, beyond)]


def outline_boxes(data: Dataset) -> Float32[np.ndarray, "O 4"]:
    """The box around each object's outline."""
    return bounds(data.rings.points, np.diff(data.rings.first), owners_of_rings(data), len(data.labels))


def _fit(boxes: Boxes, outlines: Boxes) -> Bool[np.ndarray, " n"]:
    longer = (outlines[:, 2:] - outlines[:, :2]).max(axis=1, initial=0, keepdims=True)
    return np.asarray((np.abs(boxes - outlines) <= np.maximum(NEAR, NEAR_SHARE * longer)).all(axis=1))


def _within(boxes: Boxes, frames: Boxes) -> Bool[np.ndarray, " n"]:
    inside = [boxes[:, :2] >= frames[:, :2] - NEAR, boxes[:, 2:] <= frames[:, 2:] + NEAR]
    return np.asarray(np.concatenate(inside, axis=1).all(axis=1))
