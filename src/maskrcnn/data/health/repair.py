"""Repairs of a data set: what has one remedy is mended in the columns, and all that was done is told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from maskrcnn.data.classes import relabel, tidy_names, unite_classes
from maskrcnn.data.dataset import Dataset, Flag, keep_objects, lie_inside, select
from maskrcnn.data.faults import Severity
from maskrcnn.data.health import boxes, classes, copies, images, objects
from maskrcnn.data.health.check import Health
from maskrcnn.data.health.cut import cut_outlines
from maskrcnn.data.health.findings import Finding, of_images, of_names, of_objects
from maskrcnn.data.health.images import fits, turned, wrong_size
from maskrcnn.data.health.survey import CUT_OFF, EMPTY, PAGE, POINTER, UNREADABLE, Survey
from maskrcnn.data.statistics import outline_areas
from maskrcnn.masks import Rings

UNTOUCHED = "not repaired, only a person can; what could not be read of it is not in the copy"
MOST_DIGITS = 18
"""Digits of a number that surely has 64 bits."""


@dataclass(frozen=True)
class Repair:
    """What was done about one kind of fault in one split."""

    split: str
    finding: Finding
    done: str
    """What was done, such as `left out`."""

    def __str__(self) -> str:
        return f"{self.split}: {self.finding}: {self.done}"


Mended = tuple[Dataset, list[Repair]]


def repair(health: Health) -> tuple[dict[str, Dataset], list[Repair]]:
    """Mend all splits. Raises ValueError where none could be read, or nothing is left of one."""
    if not health.datasets:
        raise ValueError("no split could be read; there is nothing to write a repaired copy of")
    done: list[Repair] = []
    mended = {}
    crossing = _in_training(health)
    for split, data in health.datasets.items():
        broken = _broken(health.findings[split])
        done += _read(split, health.read.get(split, []))
        data, found = _mend_images(split, data, health.surveys.get(split), broken, crossing if split == "train" else [])
        done += found
        for step in STEPS:
            data, found = step(split, data)
            done += found
        if not len(data.image_ids):
            raise ValueError(f"{data.annotations}: no image of the {split} split can be used; nothing is left to write")
        mended[split] = _with_plain_ids(data)
    return _unite(mended, done), done


def _read(split: str, findings: Sequence[Finding]) -> list[Repair]:
    """What reading has done already: it mends, or leaves out what it refuses."""
    texts = [one.kind.repair or (UNTOUCHED if one.kind.severity is Severity.REFUSED else "") for one in findings]
    return [Repair(split, one, text) for one, text in zip(findings, texts, strict=True) if text]


def _broken(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of images that cannot be decoded."""
    return [one for one in findings if one.kind in (EMPTY, PAGE, POINTER, UNREADABLE, CUT_OFF) and len(one.images)]


def _in_training(health: Health) -> list[int]:
    """Training images whose bytes are those of a validation image."""
    if not {"train", "val"} <= health.surveys.keys():
        return []
    firsts = copies.same_bytes(health.surveys)
    across = {first for place, first in firsts.items() if place[0] == "val" and first[0] == "train"}
    return sorted(
        {row for _, row in across}
        | {place[1] for place, first in firsts.items() if place[0] == "train" and first in across}
    )


def _mend_images(
    split: str, data: Dataset, survey: Survey | None, broken: Sequence[Finding], in_validation: Sequence[int]
) -> Mended:
    """Give images their upright or real sizes; leave out what cannot be used and what validation has as well."""
    done = [Repair(split, one, "left out") for one in broken]
    drop = np.zeros(len(data.image_ids), bool)
    drop[[row for one in broken for row in one.images.tolist()]] = True
    if survey is not None:
        data, found, unfit = _mend_sizes(split, data, survey)
        done, drop = done + found, drop | unfit
        first = _same_bytes_inside(data, survey)
        second = np.flatnonzero((first != np.arange(len(first))) & ~drop)
        done += _told(split, of_images(copies.TWIN, data, second), "the one with more objects stays")
        drop[_poorer(data, first)] = True
    across = np.array([row for row in in_validation if not drop[row]], np.int64)
    across = across if len(across) < np.count_nonzero(~drop) else across[:0]
    done += _told(split, of_images(copies.TWIN_ACROSS, data, across), "left out of training")
    drop[across] = True
    return (select(data, np.flatnonzero(~drop)) if drop.any() else data), done


def _mend_sizes(split: str, data: Dataset, survey: Survey) -> tuple[Dataset, list[Repair], Bool[np.ndarray, " N"]]:
    """(the data with the files' sizes, what was done, images whose objects fit neither size)."""
    left_out = turned(data, survey)
    upright = left_out if (left_out & ~fits(data, data.sizes) & fits(data, survey.sizes)).any() else left_out & False
    wrong, fit = wrong_size(data, survey), fits(data, survey.sizes)
    swapped = wrong & (data.sizes == survey.sizes[:, ::-1]).all(axis=1)
    done = [*_told(split, of_images(images.FITS_UPRIGHT, data, np.flatnonzero(upright)), "given their upright size")]
    for kind, chosen in ((images.SWAPPED, swapped), (images.DIFFERS, wrong & ~swapped)):
        done += _told(split, of_images(kind, data, np.flatnonzero(chosen & fit)), "given the size of their file")
        done += _told(split, of_images(kind, data, np.flatnonzero(chosen & ~fit)), "left out: objects do not fit")
    sizes = np.where((upright | wrong & fit)[:, None], survey.sizes, data.sizes)
    return _with_frame(replace(data, sizes=sizes)), done, wrong & ~fit


def _same_bytes_inside(data: Dataset, survey: Survey) -> Int64[np.ndarray, " N"]:
    """The first image of the same bytes for each; entries of one file count as their own."""
    first = np.arange(len(data.image_ids))
    listed = copies.listed_twice(data)
    for (_, row), (_, other) in copies.same_bytes({"": survey}).items():
        if listed[row] != listed[other]:
            first[row] = other
    return first


def _poorer(data: Dataset, first: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " n"]:
    """All images of each group but the first of those with the most objects."""
    counts = np.diff(data.first_object)
    order = np.lexsort((-counts, first))
    return order[1:][first[order[1:]] == first[order[:-1]]]


def _merge_entries(split: str, data: Dataset) -> Mended:
    """Entries of one file become one, which has the objects of all."""
    first = copies.listed_twice(data)
    second = np.flatnonzero(first != np.arange(len(first)))
    if not len(second):
        return data, []
    done = _told(split, of_images(copies.SAME_FILE, data, second), "objects joined to the first entry")
    order = np.lexsort((np.arange(len(first)), first))  # entries of one file side by side
    data = select(data, order)
    heads = np.flatnonzero(np.concatenate([[True], np.diff(first[order]) != 0]))
    return _joined(data, heads), done


def _joined(data: Dataset, heads: Int64[np.ndarray, " n"]) -> Dataset:
    """The first image of each run of images, with the objects of all of the run."""
    return replace(
        data,
        image_ids=data.image_ids[heads],
        file_names=[data.file_names[row] for row in heads.tolist()],
        sizes=data.sizes[heads],
        first_object=np.concatenate([data.first_object[heads], data.first_object[-1:]]),
        stated_ids=None if data.stated_ids is None else [data.stated_ids[row] for row in heads.tolist()],
    )


def _scale_fractions(split: str, data: Dataset) -> Mended:
    """Boxes and outlines between 0 and 1 are multiplied by their image's size."""
    faults = dict(objects.box_faults(data))
    chosen, outlined = faults[boxes.FRACTIONS], faults[boxes.OUTLINE_FRACTIONS]
    if not (chosen | outlined).any():
        return data, []
    done = []
    for kind in (boxes.FRACTIONS, boxes.OUTLINE_FRACTIONS):
        done += _told(split, of_objects(kind, data, np.flatnonzero(faults[kind])), "multiplied by the image's size")
    scale = data.sizes[data.owners][:, ::-1]
    small = chosen & (boxes.outline_boxes(data) <= 1).all(axis=1) | outlined
    points = np.diff(data.rings.first[data.first_ring].astype(np.int64))
    by_point = np.repeat(np.where(small[:, None], scale, 1), points, axis=0)
    rings = Rings((data.rings.points * by_point).astype(np.float32), data.rings.first)
    stated = np.where(chosen[:, None], data.boxes_xywh() * np.tile(scale, 2), data.boxes_xywh())
    return _with_boxes(replace(data, rings=rings), stated), done


def _mend_boxes(split: str, data: Dataset) -> Mended:
    """Boxes that are wrong beside an outline become the outline's; those that are corners are read as such."""
    if not len(data.labels):
        return data, []
    outline = _xywh(boxes.outline_boxes(data))
    usable = (data.flags & Flag.NO_OUTLINE == 0) & (outline_areas(data) >= objects.LEAST_AREA)
    usable &= lie_inside(boxes.outline_boxes(data), data.sizes[data.owners])
    stated, done = data.boxes_xywh().copy(), []
    for kind, chosen in objects.box_faults(data):
        if kind not in (objects.NEGATIVE, objects.FLAT, objects.OUTSIDE, boxes.CORNERS, boxes.AWAY):
            continue
        done += _told(split, of_objects(kind, data, np.flatnonzero(chosen & usable)), "given their outline's box")
        stated[chosen & usable] = outline[chosen & usable]
        bare = chosen & ~usable if kind is boxes.CORNERS else np.zeros(len(chosen), bool)
        done += _told(split, of_objects(kind, data, np.flatnonzero(bare)), "read as corners")
        stated[bare, 2:] -= stated[bare, :2]
    return _with_boxes(data, stated), done


def _cut_to_image(split: str, data: Dataset) -> Mended:
    """Boxes and outlines that reach beyond their image are cut to it, but for outlines that may be wrong themselves."""
    if not len(data.labels):
        return data, []
    limits = data.sizes[data.owners][:, ::-1]
    runs = data.flags & Flag.RUN_LENGTHS != 0
    far = (
        objects.reaches_beyond(data) | (runs & (boxes.outline_boxes(data)[:, 2:] > limits).any(axis=1))
    ) & data.learnt
    faults = dict(objects.box_faults(data))
    wide, far = faults[boxes.BEYOND], far & ~faults[boxes.EXCHANGED] & ~faults[boxes.CONTRADICTED]
    done = _told(split, of_objects(boxes.BEYOND, data, np.flatnonzero(wide)), "cut to the image")
    done += _told(split, of_objects(objects.BEYOND, data, np.flatnonzero(far & ~wide)), "cut to the image")
    corners = data.boxes.astype(np.float64)
    corners[:, :2], corners[:, 2:] = corners[:, :2].clip(min=0), np.minimum(corners[:, 2:], limits)
    stated = np.where((far | wide)[:, None], _xywh(corners), data.boxes_xywh())
    return _with_boxes(cut_outlines(data, far), stated), done


def _drop_objects(split: str, data: Dataset) -> Mended:
    """Leave out objects that cover nothing, lie outside, or repeat another."""
    twice = np.zeros(len(data.labels), bool)
    twice[objects.repeated(data)[0]] = True
    done, keep = [], np.ones(len(data.labels), bool)
    for kind, chosen in (
        *objects.box_faults(data),
        (objects.THIN, objects.covers_nothing(data)),
        (objects.TWICE, twice),
    ):
        if kind in (objects.NEGATIVE, objects.FLAT, objects.OUTSIDE, objects.TINY, objects.THIN, objects.TWICE):
            done += _told(split, of_objects(kind, data, np.flatnonzero(chosen & keep)), "left out")
            keep &= ~chosen
    return keep_objects(data, keep), done


def _mend_marks(split: str, data: Dataset) -> Mended:
    """Crowd marks that every object bears go, outlines too short, and areas that are far from their outline's."""
    short = data.flags & np.uint8(Flag.SHORT_POLYGON)
    done = _told(split, of_objects(objects.SHORT, data, np.flatnonzero(short)), "such outlines are gone")
    data = replace(data, flags=data.flags - short)
    if len(data.crowd) and data.crowd.all():
        done += _told(split, of_objects(objects.ALL_CROWD, data, np.arange(len(data.crowd))), "no longer crowd regions")
        data = replace(data, crowd=np.zeros(len(data.crowd), bool))
    off = objects.area_differs(data)
    done += _told(split, of_objects(objects.AREA, data, np.flatnonzero(off)), "measured")
    return replace(data, areas=np.where(off, np.nan, data.areas)), done


def _name_classes(split: str, data: Dataset) -> Mended:
    """Name what has no name, and make one of categories that bear one name."""
    pairs = list(zip(data.category_ids, data.category_names, strict=True))
    names = [name if name.strip() else f"class {id}" for id, name in pairs]
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    blank = [f"id {id}" for id, name in pairs if not name.strip()]
    twice = [f"{name} (id {id})" for row, (id, name) in enumerate(pairs) if first[names[row]] != row]
    done = _told(split, of_names(classes.BLANK, blank), "named by their id")
    done += _told(split, of_names(classes.SAME_NAME, twice), "one with the first of that name")
    distinct = dict.fromkeys(names)
    label_of = {name: label for label, name in enumerate(distinct, 1)}
    table = np.array([0, *(label_of[name] for name in names)], np.int64)
    ids = tuple(data.category_ids[first[name]] for name in distinct)
    return relabel(data, table, ids, tuple(distinct)), done


def _unite(splits: dict[str, Dataset], done: list[Repair]) -> dict[str, Dataset]:
    """Give both splits the same categories, of tidy names."""
    if {"train", "val"} <= splits.keys():
        for finding in classes.class_differences(splits["train"], splits["val"], united=False):
            if finding.kind in (classes.OTHER_IDS, classes.OTHER_NAMES):
                done.append(Repair("val", finding, "both splits have the same categories, known by name"))
    for split, data in splits.items():
        done += _told(split, of_names(classes.UNTIDY, classes.untidy_names(data)), "written without")
    return tidy_names(dict(zip(splits, unite_classes(list(splits.values())), strict=True)))[0]


def _xywh(corners: Float[np.ndarray, "O 4"]) -> Float64[np.ndarray, "O 4"]:
    wide = corners.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def _with_plain_ids(data: Dataset) -> Dataset:
    """The data with ids that are numbers where those that were none are gone."""
    stated = data.stated_ids or ["none"]
    if not all(id.isascii() and id.isdecimal() and len(id) <= MOST_DIGITS and str(int(id)) == id for id in stated):
        return data
    return replace(data, image_ids=np.array([int(id) for id in stated], np.int64), stated_ids=None)


def _with_boxes(data: Dataset, stated: Float64[np.ndarray, "O 4"]) -> Dataset:
    """The data with other boxes (x, y, width, height)."""
    corners = (stated + np.pad(stated[:, :2], ((0, 0), (2, 0)))).astype(np.float32)
    return _with_frame(replace(data, boxes=corners, stated_boxes=stated))


def _with_frame(data: Dataset) -> Dataset:
    """The data with the flag of objects outside their image set anew."""
    outside = np.where(lie_inside(data.boxes, data.sizes[data.owners]), 0, Flag.OUTSIDE).astype(np.uint8)
    return replace(data, flags=data.flags & ~np.uint8(Flag.OUTSIDE) | outside)


def _told(split: str, findings: Iterator[Finding], done: str) -> list[Repair]:
    return [Repair(split, finding, done) for finding in findings]


STEPS = (_merge_entries, _scale_fractions, _mend_boxes, _cut_to_image, _drop_objects, _mend_marks, _name_classes)
"""Repairs of one split's columns, in their order: boxes are compared with outlines once these are of the right size."""
