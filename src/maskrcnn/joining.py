"""The objects of tiles become those of their image: what several tiles see of an object is counted once.

Two tiles overlap, and both say which pixels there belong to which object. Where they agree on an object, it is one.
So halves that a border cuts are found to be one object, and an object that both see whole is no second one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from maskrcnn.instances import Instances
from maskrcnn.masks import counts_from_string, strings_from_counts
from maskrcnn.masks.spans import NO_SPANS, Spans, area, common, counts_from_spans, inside, spans_from_counts, united

AGREE = 0.5
"""IoU of what two tiles see of an object where they overlap, from which on it is one object."""
COVERED = 0.7
"""Share of a part that another object covers, from which on a part that nothing continues is a piece of that."""
NEAR = 0.01
"""Share of a tile's side: a box that comes nearer to a border than that is taken to be cut by it."""
WHOLE = 0.75
"""Share of all that is seen of an object which one tile must see to be believed to see all."""


class Pieces(NamedTuple):
    """What the tiles of an image found, each object as often as it was found, in the frame of the image."""

    boxes: Float[np.ndarray, "n 4"]
    """xyxy."""
    labels: Int64[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    tiles: Int64[np.ndarray, " n"]
    """Number of the tile that each was found in, ascending."""
    is_cut: Bool[np.ndarray, " n"]
    """Whether the object reaches the tile's border, and may go on behind it."""
    masks: list[Spans]


class Joiner:
    """Gathers what the tiles of one image hold, in any order, and joins it at the end."""

    def __init__(self, size: tuple[int, int], windows: Int64[np.ndarray, "t 4"]) -> None:
        """Take the (height, width) of the image, and its tiles (xyxy, whole pixels)."""
        self._size, self._windows = size, windows
        self._found: dict[int, Pieces] = {}
        self._like = Instances.empty(size)
        self._names: dict[int, str] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every tile has come."""
        return len(self._found) == len(self._windows)

    def add(self, tile: int, found: Instances) -> None:
        """The objects of a tile, by its number, in the tile's own frame."""
        window = self._windows[tile]
        corner = window[:2]
        masks = [
            spans_from_counts(counts_from_string(rle["counts"]), found.size[0], (int(corner[0]), int(corner[1])))
            for rle in found.rle
        ]
        boxes = found.boxes.astype(np.float64) + np.tile(corner, 2)
        self._found[tile] = Pieces(
            boxes=boxes,
            labels=found.labels,
            scores=found.scores,
            tiles=np.full(len(found), tile),
            is_cut=_touches(boxes, window, self._size),
            masks=masks,
        )
        self._names |= dict(zip(found.labels.tolist(), found.names, strict=True))
        self._like = found

    def joined(self) -> Instances:
        """The objects of the image, best first, with whole masks."""
        found = [self._found[tile] for tile in sorted(self._found)]
        masks = [mask for pieces in found for mask in pieces.masks]
        columns = (np.concatenate(column) for column in list(zip(*found, strict=True))[:-1])
        pieces = Pieces(*columns, masks)  # type: ignore[arg-type, call-arg]
        objects = list(join(pieces, self._windows))
        return self._instances(pieces, objects)

    def _instances(self, pieces: Pieces, objects: Sequence["Joined"]) -> Instances:
        height, width = self._size
        order = np.argsort([-one.score for one in objects], kind="stable").tolist()
        chosen = [objects[index] for index in order]
        counts = [counts_from_spans(one.mask, height, width) for one in chosen]
        stops = np.cumsum([len(runs) for runs in counts], dtype=np.int64)
        boxes = np.array([one.box for one in chosen]).reshape(-1, 4)
        labels = pieces.labels[[one.piece for one in chosen]]
        return Instances(
            boxes=boxes.clip(0, (width, height, width, height)).astype(np.float32),
            labels=labels,
            names=[self._names[label] for label in labels.tolist()],
            scores=np.array([one.score for one in chosen], np.float32),
            probabilities=torch.zeros(len(chosen), 0, 0),
            size=self._size,
            category_ids=self._like.category_ids,
            runs=strings_from_counts(np.concatenate([np.zeros(0, np.uint32), *counts]), stops),
        )


class Joined(NamedTuple):
    """An object of an image."""

    piece: int
    """One of its pieces."""
    box: Float[np.ndarray, "4"]
    score: float
    mask: Spans


def join(pieces: Pieces, windows: Int64[np.ndarray, "t 4"]) -> Iterator[Joined]:
    """Yield each object once, in the order of its first piece.

    Pieces of one class are one object where their tiles agree on it. Two of one tile never are: the network told them
    apart. Where a tile sees an object whole, its box and mask are taken, of several those with the best score; else
    those of all pieces together. A part without continuation that lies in another object of its class is dropped.
    """
    agreed, covered = _compare(pieces, windows)
    groups = _grouped(agreed, pieces.tiles)
    owner = {piece: number for number, group in enumerate(groups) for piece in group}
    hidden = {piece for piece, others in covered.items() if any(owner[other] != owner[piece] for other in others)}
    for group in groups:
        if not hidden.issuperset(group):
            yield _one(pieces, group)


def _touches(
    boxes: Float[np.ndarray, "n 4"], window: Int64[np.ndarray, "4"], size: tuple[int, int]
) -> Bool[np.ndarray, " n"]:
    """Whether boxes come near a border of their tile behind which the image goes on."""
    near = max(1.0, NEAR * float((window[2:] - window[:2]).max()))
    goes_on = np.concatenate([window[:2] > 0, window[2:] < (size[1], size[0])])
    distance = np.concatenate([boxes[:, :2] - window[:2], window[2:] - boxes[:, 2:]], axis=1)
    return ((distance < near) & goes_on).any(axis=1)


def _compare(
    pieces: Pieces, windows: Int64[np.ndarray, "t 4"]
) -> tuple[list[tuple[float, int, int]], dict[int, list[int]]]:
    """(agreement, piece, other) of those that are one object; and for each part, the larger objects that cover it."""
    agreed: list[tuple[float, int, int]] = []
    covered: dict[int, list[int]] = {}
    areas = [area(mask) for mask in pieces.masks]
    for window, a, b in _candidates(pieces, windows):
        mine, other = inside(pieces.masks[a], window), inside(pieces.masks[b], window)
        shared, mine_area, other_area = common(mine, other), area(mine), area(other)
        if not shared:
            continue
        iou = shared / (mine_area + other_area - shared)
        if iou >= AGREE:
            agreed.append((iou, a, b))
        for part, whole in ((a, b), (b, a)):
            is_smaller = (areas[part], -part) < (areas[whole], -whole)
            if pieces.is_cut[part] and is_smaller and shared >= COVERED * areas[part]:
                covered.setdefault(part, []).append(whole)
    return agreed, covered


def _candidates(pieces: Pieces, windows: Int64[np.ndarray, "t 4"]) -> Iterator[tuple[Int64[np.ndarray, "4"], int, int]]:
    """Yield the overlap of two tiles, and a piece of each, of one class, whose boxes meet there."""
    first = np.searchsorted(pieces.tiles, np.arange(len(windows) + 1))
    for tile in np.flatnonzero(np.diff(first)).tolist():
        later = np.arange(tile + 1, len(windows))
        overlaps = np.concatenate(
            [np.maximum(windows[later, :2], windows[tile, :2]), np.minimum(windows[later, 2:], windows[tile, 2:])],
            axis=1,
        )
        has_both = (overlaps[:, 2:] > overlaps[:, :2]).all(axis=1) & (np.diff(first)[later] > 0)
        for other, overlap in zip(later[has_both].tolist(), overlaps[has_both], strict=True):
            mine, theirs = (np.arange(first[number], first[number + 1]) for number in (tile, other))
            a, b = (_cut(pieces.boxes[number], overlap) for number in (mine, theirs))
            meet = np.minimum(a[:, None, 2:], b[None, :, 2:]) > np.maximum(a[:, None, :2], b[None, :, :2])
            is_same = pieces.labels[mine][:, None] == pieces.labels[theirs]
            for i, j in np.argwhere(meet.all(axis=2) & is_same).tolist():
                yield overlap, int(mine[i]), int(theirs[j])


def _cut(boxes: Float[np.ndarray, "n 4"], window: Int64[np.ndarray, "4"]) -> Float[np.ndarray, "n 4"]:
    return np.concatenate([np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])], axis=1)


def _grouped(agreed: Sequence[tuple[float, int, int]], tiles: Int64[np.ndarray, " n"]) -> list[list[int]]:
    """Pieces that are one object, those that agree best first; no two of one tile."""
    groups = {piece: [piece] for piece in range(len(tiles))}
    for _, a, b in sorted(agreed, key=lambda pair: (-pair[0], pair[1:])):
        mine, other = groups[a], groups[b]
        if mine is other or not {int(tiles[piece]) for piece in mine}.isdisjoint(int(tiles[piece]) for piece in other):
            continue
        both = sorted(mine + other)
        groups |= dict.fromkeys(both, both)
    return [group for piece, group in groups.items() if group[0] == piece]


def _one(pieces: Pieces, group: Sequence[int]) -> Joined:
    """The object that some pieces show."""
    best = max(group, key=lambda piece: (pieces.scores[piece], -piece))
    if len(group) == 1:
        return Joined(best, pieces.boxes[best], float(pieces.scores[best]), pieces.masks[best])
    everything = united([NO_SPANS, *(pieces.masks[piece] for piece in group)])
    least = WHOLE * area(everything)
    whole = [piece for piece in group if not pieces.is_cut[piece] and area(pieces.masks[piece]) >= least]
    if whole:
        best = max(whole, key=lambda piece: (pieces.scores[piece], -piece))
        return Joined(best, pieces.boxes[best], float(pieces.scores[best]), pieces.masks[best])
    boxes = pieces.boxes[list(group)]
    around = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return Joined(best, around, float(pieces.scores[best]), everything)
