"""Boxes against the outlines and the images that they belong to."""

import numpy as np
from jaxtyping import Bool, Float32, Int64, Num

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.health.cut import cut_alone
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
CONTRADICTED = Kind(
    "outlines-contradict-boxes",
    "objects",
    Severity.WARNING,
    "have a box that does not fit their outline, and so many have that either may be wrong; a person must decide",
)
EXCHANGED = Kind(
    "outlines-exchanged",
    "objects",
    Severity.WARNING,
    "have an outline that fits its box once x and y are exchanged; a person must decide which of both is right",
)
OUTLINE_FRACTIONS = Kind(
    "outlines-as-fractions",
    "objects",
    Severity.WARNING,
    "have an outline between 0 and 1, as parts of the image's size, and a box in pixels; COCO writes pixels for both",
    "outlines are multiplied by the size",
)
BEYOND = Kind(
    "boxes-beyond-image",
    "objects",
    Severity.WARNING,
    "have a box that leaves their image",
    "they are cut to the image, and so are outlines",
)
MISFITS = (CORNERS, FRACTIONS, OUTLINE_FRACTIONS, AWAY, EXCHANGED, CONTRADICTED, BEYOND)
"""All of these kinds, in the order in which `box_misfits` gives them."""
NEAR, NEAR_SHARE = 2.0, 0.1
"""Pixels by which a box may miss its outline or leave its image, and the share of the outline's longer side."""
LEAST_SIDE = 8
"""Pixels of an image in which a box of less than one pixel is no fraction of it."""
MOST = 0.5
"""Share of the boxes without outlines from which on those between 0 and 1 are taken for fractions."""
FEW, FEW_SHARE = 2, 0.1
"""Number of boxes that do not fit, and their share of those with outlines, up to which the boxes are what is wrong."""
NEARLY_ALL = 0.9
"""Share of the outlines that one cause must explain."""

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
    misfits = _misfits(data, outlines, frames, ~is_bare)
    suspects = misfits | beyond | (boxes[:, 2:] <= 1).all(axis=1)
    if not suspects.any():
        return [(kind, suspects) for kind in MISFITS]
    fractions = (boxes >= 0).all(axis=1) & (boxes[:, 2:] <= 1).all(axis=1) & (sizes.min(axis=1) >= LEAST_SIDE)
    if np.count_nonzero(fractions) < MOST * len(boxes):
        fractions &= misfits & _fit(boxes * np.tile(sizes[:, ::-1], 2), outlines)
    as_corners = (stated[:, 2:] > stated[:, :2]).all(axis=1) & ~fractions
    as_corners &= np.where(is_bare, beyond & _within(stated, frames), misfits & _fit(stated, outlines))
    away = misfits & ~fractions & ~as_corners
    small = away & _are_fractions(boxes, outlines, sizes)
    small &= np.count_nonzero(small) >= NEARLY_ALL * np.count_nonzero(~is_bare)
    by_cause = _split_by_cause(away & ~small, boxes, outlines, ~is_bare)
    beyond &= ~fractions & ~as_corners & ~away & data.learnt
    return list(zip(MISFITS, (as_corners, fractions, small, *by_cause, beyond), strict=True))


def _misfits(data: Dataset, outlines: Boxes, frames: Boxes, outlined: Bool[np.ndarray, " O"]) -> Bool[np.ndarray, " O"]:
    """Boxes that fit neither their outline, nor what of its box or of itself lies in the image."""
    found = outlined & ~_fit(data.boxes, outlines)
    far = found & ((outlines[:, :2] < frames[:, :2]) | (outlines[:, 2:] > frames[:, 2:])).any(axis=1)
    least, most = np.tile(frames[far, :2], 2), np.tile(frames[far, 2:], 2)
    found[far] = ~_fit(data.boxes[far], outlines[far].clip(least, most))
    far &= found
    if far.any():
        found[far] = ~_fit(data.boxes[far], outline_boxes(cut_alone(data, far)))
    return found


def _are_fractions(boxes: Boxes, outlines: Boxes, sizes: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which outlines lie between 0 and 1 and fit their box once they are multiplied by their image's size."""
    inside = (outlines[:, :2] >= 0).all(axis=1) & (outlines[:, 2:] <= 1).all(axis=1)
    inside &= sizes.min(axis=1) >= LEAST_SIDE
    scaled = np.where(inside[:, None], outlines, 0) * np.tile(sizes[:, ::-1], 2)
    return np.asarray(inside & _fit(boxes, scaled))


def _split_by_cause(
    away: Bool[np.ndarray, " n"], boxes: Boxes, outlines: Boxes, outlined: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Boxes that do not fit: (few, which are wrong; outlines with x and y exchanged; as many that none can tell)."""
    none, number = np.zeros_like(away), np.count_nonzero(outlined)
    if np.count_nonzero(away) <= max(FEW, FEW_SHARE * number):
        return away, none, none
    turned = outlined & _fit(boxes, np.where(outlined[:, None], outlines, 0)[:, [1, 0, 3, 2]])
    exchanged = away & turned if np.count_nonzero(turned) >= NEARLY_ALL * number else none
    return none, exchanged, away & ~exchanged


def outline_boxes(data: Dataset) -> Float32[np.ndarray, "O 4"]:
    """The box around each object's outline."""
    return bounds(data.rings.points, np.diff(data.rings.first), owners_of_rings(data), len(data.labels))


def _fit(boxes: Boxes, outlines: Boxes) -> Bool[np.ndarray, " n"]:
    longer = (outlines[:, 2:] - outlines[:, :2]).max(axis=1, initial=0, keepdims=True)
    return np.asarray((np.abs(boxes - outlines) <= np.maximum(NEAR, NEAR_SHARE * longer)).all(axis=1))


def _within(boxes: Boxes, frames: Boxes) -> Bool[np.ndarray, " n"]:
    inside = [boxes[:, :2] >= frames[:, :2] - NEAR, boxes[:, 2:] <= frames[:, 2:] + NEAR]
    return np.asarray(np.concatenate(inside, axis=1).all(axis=1))
