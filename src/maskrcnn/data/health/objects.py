"""Faults of objects that the columns of one split tell."""

import json
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64

from maskrcnn.data.annotations.spelling import decimal
from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.faults import Kind, Severity
from maskrcnn.data.health.boxes import box_misfits, outline_boxes
from maskrcnn.data.health.crossing import crossing
from maskrcnn.data.health.cut import cut_alone
from maskrcnn.data.health.findings import Finding, of_images, of_objects
from maskrcnn.data.health.images import SLACK
from maskrcnn.data.statistics import outline_areas, owners_of_rings

LEAST_AREA = 1.0
"""Square pixels below which an object is tiny."""
SCORED = 100
"""Results of an image that COCO's metrics count."""
OFF = 2.0
"""Factor between an area and that of its outline from which on they differ; COCO's own differ by rounding."""
SLIGHT = 100.0
"""Square pixels by which areas of small objects differ anyway."""
LEFT_OUT = "the object is left out"
FROM_OUTLINE = "the box becomes that of the outline; without one, the object is left out"

NEGATIVE = Kind("box-negative", "objects", Severity.WARNING, "have a box of negative width or height", FROM_OUTLINE)
FLAT = Kind("box-empty", "objects", Severity.WARNING, "have a box without area and are not learnt", FROM_OUTLINE)
OUTSIDE = Kind("box-outside", "objects", Severity.WARNING, "lie outside their image and are not learnt", FROM_OUTLINE)
BEYOND = Kind(
    "outline-beyond-image",
    "objects",
    Severity.NOTE,
    "have an outline that reaches beyond their image and is cut there",
    "they are cut to the image",
)
SHORT = Kind(
    "outline-short",
    "objects",
    Severity.WARNING,
    "have an outline of fewer than three points, which is left out",
    "such outlines are left out",
)
BARE = Kind("outline-missing", "objects", Severity.NOTE, "have a box and no outline; their box stands in for it")
CROSSED = Kind("outline-crossed", "objects", Severity.NOTE, "have an outline that crosses itself")
THIN = Kind("outline-without-area", "objects", Severity.WARNING, "have an outline that covers nothing", LEFT_OUT)
TINY = Kind("object-tiny", "objects", Severity.WARNING, "are smaller than a pixel", LEFT_OUT)
TWICE = Kind("object-twice", "objects", Severity.WARNING, "repeat another of their image exactly", "one of them stays")
TWO_CLASSES = Kind(
    "object-of-two-classes",
    "objects",
    Severity.WARNING,
    "have the outline of another of their image, and another class",
)
AREA = Kind(
    "area-differs",
    "objects",
    Severity.NOTE,
    "state an area far from that of their outline, by which scores tell small from large",
    "the area is measured",
)
SCORES = Kind(
    "object-with-score",
    "objects",
    Severity.WARNING,
    "carry a `score`, as what a model found does; they are learnt and scored as if a person had drawn them",
)
ALL_CROWD = Kind(
    "objects-all-crowd",
    "objects",
    Severity.REFUSED,
    "bear `iscrowd` 1, as all here: nothing is learnt of crowd regions, though some tools mark every mask so",
    "none of them stays a crowd region",
)
CROWDED = Kind(
    "image-crowded", "images", Severity.NOTE, f"have more than {SCORED} objects; scores count the {SCORED} best results"
)
WITHOUT = Kind("image-without-objects", "images", Severity.NOTE, "have no objects and are learnt as background")


def object_faults(data: Dataset) -> Iterator[Finding]:
    """All that the columns tell of objects, and of how many there are in an image."""
    yield from _boxes(data)
    yield from _outlines(data)
    for kind, rows in zip((TWICE, TWO_CLASSES), repeated(data), strict=True):
        yield from of_objects(kind, data, rows)
    yield from of_objects(AREA, data, np.flatnonzero(area_differs(data)))
    yield from of_objects(SCORES, data, np.flatnonzero(has_score(data)))
    counts = np.diff(data.first_object)
    yield from of_images(CROWDED, data, np.flatnonzero(counts > SCORED), f"one has {counts.max(initial=0)}")
    empty = np.flatnonzero(counts == 0)
    yield from of_images(WITHOUT, data, empty, f"{len(empty) / max(len(counts), 1):.0%} of the images")
    if len(data.crowd) and data.crowd.all():
        yield from of_objects(ALL_CROWD, data, np.arange(len(data.crowd)))


def area_differs(data: Dataset) -> Bool[np.ndarray, " O"]:
    """Objects whose stated area is far from that of their outline: far more than its box has, or far less.

    Less may be right where the outline leaves the image: what lies in the image is compared as well.
    """
    corners = outline_boxes(data).astype(np.float64)
    most, least = (corners[:, 2:] - corners[:, :2]).prod(axis=1), outline_areas(data)
    known = np.isfinite(data.areas) & (least >= LEAST_AREA) & (data.flags & Flag.NO_OUTLINE == 0)
    with np.errstate(invalid="ignore"):
        small = known & (OFF * data.areas + SLIGHT < least)
        far = small & reaches_beyond(data)
        if far.any():
            small[far] = OFF * data.areas[far] + SLIGHT < outline_areas(cut_alone(data, far))
        return known & (data.areas > OFF * most + SLIGHT) | small


def has_score(data: Dataset) -> Bool[np.ndarray, " O"]:
    """Objects whose annotation has a number called `score`, which may be written as text."""
    texts = data.attributes or [""] * len(data.labels)
    return np.array(['"score"' in text and _is_number(decimal(json.loads(text).get("score"))) for text in texts], bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def repeated(data: Dataset) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"]]:
    """(objects whose box and outline are those of an earlier one of their image and class, or but of another class)."""
    num_points = np.diff(data.rings.first[data.first_ring])
    keys = [np.diff(data.first_ring), num_points, *data.boxes.T, data.owners]
    order = np.lexsort([data.annotation_ids, *keys])
    same = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(order)]])
    twice: list[int] = []
    otherwise: list[int] = []
    for run in np.flatnonzero(np.diff(starts) > 1).tolist():
        seen: dict[bytes, set[int]] = {}
        for index in order[starts[run] : starts[run + 1]].tolist():
            labels, label = seen.setdefault(data.outline(index).points.tobytes(), set()), int(data.labels[index])
            if labels:
                (twice if label in labels else otherwise).append(index)
            labels.add(label)
    return np.sort(np.array(twice, np.int64)), np.sort(np.array(otherwise, np.int64))


def box_faults(data: Dataset) -> list[tuple[Kind, Bool[np.ndarray, " O"]]]:
    """What can be wrong with boxes, and which objects have it; one has one of these faults at most."""
    sides = data.boxes_xywh()[:, 2:]
    found: list[tuple[Kind, Bool[np.ndarray, " O"]]] = []
    rest = np.ones(len(sides), bool)
    for kind, chosen in (
        (NEGATIVE, (sides < 0).any(axis=1)),
        (FLAT, ((sides == 0) | (data.boxes[:, 2:] <= data.boxes[:, :2])).any(axis=1)),
        (OUTSIDE, data.flags & Flag.OUTSIDE != 0),
        *box_misfits(data),
        (TINY, sides.prod(axis=1) < LEAST_AREA),
    ):
        found.append((kind, chosen & rest))
        rest &= ~chosen
    return found


def _boxes(data: Dataset) -> Iterator[Finding]:
    beyond = reaches_beyond(data) & data.learnt
    for kind, chosen in box_faults(data):
        yield from of_objects(kind, data, np.flatnonzero(chosen))
        beyond &= ~chosen
    yield from of_objects(BEYOND, data, np.flatnonzero(beyond))


def reaches_beyond(data: Dataset) -> Bool[np.ndarray, " O"]:
    """Objects with a point of their outline beyond the edge of their image."""
    found, limits = outline_boxes(data), data.sizes[data.owners][:, ::-1] + SLACK
    bare = data.flags & Flag.NO_OUTLINE != 0
    return ~bare & ((found[:, :2] < -SLACK) | (found[:, 2:] > limits)).any(axis=1)


def covers_nothing(data: Dataset) -> Bool[np.ndarray, " O"]:
    """Objects whose outlines enclose no area; two halves of a bow tie, which cancel out, do."""
    thin = (data.flags & Flag.NO_OUTLINE == 0) & (outline_areas(data) == 0)
    return thin & ~_crosses(data, thin) if thin.any() else thin


def _outlines(data: Dataset) -> Iterator[Finding]:
    bare, runs = data.flags & Flag.NO_OUTLINE != 0, data.flags & Flag.RUN_LENGTHS != 0
    short = data.flags & Flag.SHORT_POLYGON != 0
    yield from of_objects(SHORT, data, np.flatnonzero(short))
    yield from of_objects(BARE, data, np.flatnonzero(bare & ~short & data.learnt))
    yield from of_objects(CROSSED, data, np.flatnonzero(_crosses(data, ~(runs | bare))))
    yield from of_objects(THIN, data, np.flatnonzero(covers_nothing(data)))


def _crosses(data: Dataset, chosen: Bool[np.ndarray, " O"]) -> Bool[np.ndarray, " O"]:
    """Which of the chosen objects have a ring that crosses itself."""
    of_ring = owners_of_rings(data)
    return np.bincount(of_ring[crossing(data.rings, chosen[of_ring])], minlength=len(data.labels)) > 0
