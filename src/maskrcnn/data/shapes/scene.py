"""One image of the built-in data set: what stands where, and which pixels show it."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from maskrcnn.data.shapes.dice import Dice
from maskrcnn.data.shapes.geometry import Shape, distance, grid, overlap, window
from maskrcnn.data.shapes.paint import background, paint, photograph

CATEGORIES = {1: "disc", 3: "square", 4: "triangle", 8: "star", 9: "ring"}  # ids have gaps, as COCO's have
EMPTY_IMAGES = 0.04
CROWDED_IMAGES = 0.08
BARS = 0.09  # chance after each object; bars have no label: they cut objects into parts and invite false alarms
MAX_OBJECTS = 5
SMALLEST_VISIBLE = 30  # pixels
SMALLEST_SHARE = 0.35  # of the whole object, hidden and outside parts included


class Scene(NamedTuple):
    """One image and what is in it."""

    pixels: UInt8[np.ndarray, "h w 3"]
    owners: Int32[np.ndarray, "h w"]
    """The group that each pixel belongs to, -1 where none."""
    category_ids: tuple[int, ...]
    """Category id of each group."""
    crowd: tuple[bool, ...]


def draw_scene(seed: int, split: int, index: int, side: int = 128) -> Scene:
    """Image `index` of a split (0 train, 1 val): a function of its arguments alone."""
    dice = Dice(seed, split, index)
    height, width = _image_size(dice, side)
    category_ids, crowd, shapes = _compose(dice, height, width, side)
    shapes, owners = _remove_hidden(shapes, height, width)
    pixels, tones = background(dice, height, width)
    for shape in shapes:
        paint(pixels, shape, dice, tones)
    return Scene(photograph(pixels, dice), owners, category_ids, crowd)


def _image_size(dice: Dice, side: int) -> tuple[int, int]:
    """(height, width): landscape, portrait or square; the shorter is 5/8 to 8/8 of `side`."""
    short = side * (5 + dice.below(4)) // 8
    return (short, side) if dice.happens(0.6) else (side, short)


def _compose(dice: Dice, height: int, width: int, side: int) -> tuple[tuple[int, ...], tuple[bool, ...], list[Shape]]:
    """Category and crowd flag of each group, and the shapes in the order of painting."""
    if dice.happens(EMPTY_IMAGES):
        return (), (), []
    category_ids, crowd, shapes = [], [], []
    ids = tuple(CATEGORIES)
    if dice.happens(CROWDED_IMAGES):
        category_ids.append(ids[dice.below(len(ids))])
        crowd.append(True)
        shapes += _cluster(dice, CATEGORIES[category_ids[0]], height, width, side)
    for _ in range(1 + dice.below(MAX_OBJECTS)):
        category_ids.append(ids[dice.below(len(ids))])
        crowd.append(False)
        shapes.append(_object(dice, CATEGORIES[category_ids[-1]], len(crowd) - 1, height, width, side))
        if dice.happens(BARS):
            shapes.append(_bar(dice, height, width, side))
    return tuple(category_ids), tuple(crowd), shapes


def _object(dice: Dice, outline: str, group: int, height: int, width: int, side: int) -> Shape:
    """Half of the objects are smaller than a quarter of `side`; one in ten is tiny."""
    share = dice.uniform()
    diameter = side * (dice.uniform(0.1, 0.15) if dice.happens(0.1) else 0.18 + 0.6 * share * share)
    center = dice.uniform(0.04, 0.96) * width, dice.uniform(0.04, 0.96) * height
    return Shape(outline, center, diameter / 2, dice.direction(), dice.uniform(1.0, 1.2), group)


def _cluster(dice: Dice, outline: str, height: int, width: int, side: int) -> list[Shape]:
    """Many tiny objects of one category, too many to annotate one by one: group 0."""
    x, y = dice.uniform(0.2, 0.8) * width, dice.uniform(0.2, 0.8) * height
    spread_x, spread_y = side * dice.uniform(0.12, 0.25), side * dice.uniform(0.08, 0.16)
    members = []
    for _ in range(12 + dice.below(14)):
        dx, dy = dice.direction()
        reach = math.sqrt(dice.uniform())
        center = x + dx * reach * spread_x, y + dy * reach * spread_y
        members.append(Shape(outline, center, side * dice.uniform(0.025, 0.042), dice.direction(), 1.0, 0))
    return members


def _bar(dice: Dice, height: int, width: int, side: int) -> Shape:
    center = dice.uniform(0.2, 0.8) * width, dice.uniform(0.2, 0.8) * height
    return Shape("bar", center, side * dice.uniform(0.2, 0.5), dice.direction(), 1.0, -1)


def _remove_hidden(shapes: list[Shape], height: int, width: int) -> tuple[list[Shape], Int32[np.ndarray, "h w"]]:
    """Drop objects of which too little can be seen; what they hid appears, so look again until all are seen."""
    while True:
        owners = np.full((height, width), -1, dtype=np.int32)
        whole: dict[int, int] = {}
        for shape in shapes:
            around = window(shape)
            inside = distance(shape, *grid(around)) <= 0
            whole[shape.group] = whole.get(shape.group, 0) + int(np.count_nonzero(inside))
            target, source = overlap(around, height, width)
            owners[target][inside[source]] = shape.group
        seen = {group: int(np.count_nonzero(owners == group)) for group in whole if group >= 0}
        hidden = {g for g, n in seen.items() if n < SMALLEST_VISIBLE or n < SMALLEST_SHARE * whole[g]}
        if not hidden:
            return shapes, owners
        shapes = [shape for shape in shapes if shape.group not in hidden]
