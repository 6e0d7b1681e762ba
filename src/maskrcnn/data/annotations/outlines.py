"""The `segmentation` fields of an annotation file, packed as rings."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from maskrcnn.data.annotations.scan import Scanned
from maskrcnn.data.annotations.segmentation import Segmentation
from maskrcnn.data.dataset import Flag
from maskrcnn.kernels import kernel
from maskrcnn.masks import Rings, signed_areas
from maskrcnn.masks.rings import turn_ring

FARTHEST = 2.0**20
"""Pixels from an image's corner beyond which no outline lies: drawing one costs what its length does."""
THREADS = 4
"""Number of threads that copy rings into their order."""


class Outlines(NamedTuple):
    """Rings of some annotations; those of one in their order, annotations in any order."""

    points: Float32[np.ndarray, "V 2"]
    lengths: Int64[np.ndarray, " R"]
    """Points of each ring."""
    owners: Int64[np.ndarray, " R"]
    """Row of the annotation that each ring belongs to."""
    flags: UInt8[np.ndarray, " n"]
    """What is known of each annotation's outline, as `Flag`."""


def read_outlines(scanned: Scanned, boxes: Float32[np.ndarray, "n 4"], pieces: Mapping[int, Segmentation]) -> Outlines:
    """The outlines of some annotations; those that have none get their box.

    boxes     xyxy
    pieces    segmentations whose polygons the scan does not tell, by the row of their annotation
    """
    _turn_rings(scanned.points, scanned.first, signed_areas(Rings(scanned.points, scanned.first)))
    rings = [Rings(scanned.points, scanned.first), *(piece.rings for piece in pieces.values())]
    owners = [scanned.owners, *(np.full(len(piece.rings.first) - 1, row) for row, piece in pieces.items())]
    flags = np.where(scanned.num_short > 0, Flag.SHORT_POLYGON, 0).astype(np.uint8)
    for row, piece in pieces.items():
        flags[row] = piece.flag
    owner = np.concatenate(owners)
    bare = np.flatnonzero(np.bincount(owner, minlength=len(flags)) == 0)
    flags[bare] = flags[bare] & ~np.uint8(Flag.RUN_LENGTHS) | Flag.NO_OUTLINE
    corners = boxes[bare][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2).clip(-FARTHEST, FARTHEST)
    points = np.concatenate([*(one.points for one in rings), corners])
    lengths = np.concatenate([*(np.diff(one.first) for one in rings), np.full(len(bare), 4)]).astype(np.int64)
    return Outlines(points, lengths, np.concatenate([owner, bare]), flags)


def arrange_outlines(
    pieces: Sequence[Outlines], ranks: Int64[np.ndarray, " n"]
) -> tuple[Rings, Int64[np.ndarray, " n+1"]]:
    """All rings in the order of their rows' ranks, and the first ring of each rank."""
    lengths = np.concatenate([piece.lengths for piece in pieces])
    starts = np.cumsum([0, *(len(piece.flags) for piece in pieces)])
    owners = ranks[np.concatenate([start + piece.owners for start, piece in zip(starts, pieces, strict=False)])]
    order = np.argsort(owners, kind="stable")
    first = np.concatenate([[0], np.cumsum(lengths[order])])
    targets = np.empty_like(lengths)
    targets[order] = first[:-1]
    points = np.empty((first[-1], 2), np.float32)
    ends = np.cumsum([len(piece.lengths) for piece in pieces]).tolist()

    def copy(piece: Outlines, end: int) -> None:
        _copy_rings(piece.points, piece.lengths, targets[end - len(piece.lengths) : end], points)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy, pieces, ends))  # which raises what a thread raised
    first_ring = np.searchsorted(owners[order], np.arange(len(ranks) + 1))
    return Rings(points, first.astype(np.int32)), first_ring.astype(np.int64)


@kernel()
@no_type_check
def _turn_rings(points, first, areas):
    """Let every ring run the way that makes its area positive."""
    for ring in range(len(areas)):
        if areas[ring] < 0:
            turn_ring(points, first[ring], first[ring + 1])


@kernel()
@no_type_check
def _copy_rings(points, lengths, targets, out):
    start = 0
    for ring in range(len(lengths)):
        for k in range(lengths[ring]):
            out[targets[ring] + k, 0], out[targets[ring] + k, 1] = points[start + k, 0], points[start + k, 1]
        start += lengths[ring]
