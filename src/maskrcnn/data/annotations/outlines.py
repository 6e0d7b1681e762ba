"""The `segmentation` fields of an annotation file, packed as rings."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, no_type_check

import msgspec
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from msgspec import Struct

from maskrcnn.data.annotations.scan import LEAST, Scanned, scan_runs
from maskrcnn.data.dataset import Flag
from maskrcnn.kernels import kernel
from maskrcnn.masks import Rings, counts_from_string, rings_from_counts, rings_from_polygons, signed_areas
from maskrcnn.masks.rings import turn_ring


class _RunLengths(Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


THREADS = 4
"""Number of threads that copy rings into their order."""

_Segmentation = list[list[float]] | _RunLengths | None
_segmentations = msgspec.json.Decoder(_Segmentation)


class Outlines(NamedTuple):
    """Rings of some annotations; those of one in their order, annotations in any order."""

    points: Float32[np.ndarray, "V 2"]
    lengths: Int64[np.ndarray, " R"]
    """Points of each ring."""
    owners: Int64[np.ndarray, " R"]
    """Row of the annotation that each ring belongs to."""
    flags: UInt8[np.ndarray, " n"]
    """What is known of each annotation's outline, as `Flag`."""


def read_outlines(
    scanned: Scanned,
    boxes: Float32[np.ndarray, "n 4"],
    others: Mapping[int, bytes | msgspec.Raw],
    sizes: Int64[np.ndarray, "n 2"],
    path: Path,
) -> Outlines:
    """The outlines of some annotations; those that have none get their box.

    boxes     xyxy
    others    text of the segmentations whose polygons the scan does not tell
    sizes     of each annotation's image
    Raises ValueError: one sentence with the annotation's name.
    """
    _turn_rings(scanned.points, scanned.first, signed_areas(Rings(scanned.points, scanned.first)))
    pieces = [Rings(scanned.points, scanned.first)]
    owners = [scanned.owners]
    flags = np.where(scanned.num_short > 0, Flag.SHORT_POLYGON, 0).astype(np.uint8)
    for row, text in others.items():
        who = f"{path}: annotation {scanned.ids[row]} of image {scanned.image_ids[row]}"
        rings, flags[row] = _rings(text, sizes[row], who)
        pieces.append(rings)
        owners.append(np.full(len(rings.first) - 1, row))
    owner = np.concatenate(owners)
    bare = np.flatnonzero(np.bincount(owner, minlength=len(flags)) == 0)
    flags[bare] = flags[bare] & ~np.uint8(Flag.RUN_LENGTHS) | Flag.NO_OUTLINE
    corners = boxes[bare][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    points = np.concatenate([*(rings.points for rings in pieces), corners])
    lengths = np.concatenate([*(np.diff(rings.first) for rings in pieces), np.full(len(bare), 4)]).astype(np.int64)
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


def _rings(text: bytes | msgspec.Raw, size: Int64[np.ndarray, "2"], who: str) -> tuple[Rings, Flag]:
    """The rings of any segmentation, and what is known of it."""
    runs = scan_runs(np.frombuffer(text, np.uint8))
    if runs is not None:
        return _run_length_rings(*runs, size, who), Flag.RUN_LENGTHS
    try:
        segmentation = _segmentations.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{who} has a segmentation that is neither polygons nor run lengths ({error}); correct or remove it"
        ) from None
    if isinstance(segmentation, _RunLengths):
        return _run_length_rings(segmentation.size, segmentation.counts, size, who), Flag.RUN_LENGTHS
    whole = [polygon for polygon in segmentation or () if len(polygon) >= LEAST]
    for polygon in whole:
        try:
            rings_from_polygons([polygon])
        except ValueError as error:
            raise ValueError(f"{who} has a malformed outline ({error}); correct or remove it") from None
    return rings_from_polygons(whole), Flag(0) if len(whole) == len(segmentation or ()) else Flag.SHORT_POLYGON


def _run_length_rings(
    stated: tuple[int, int], counts: str | list[int] | Int64[np.ndarray, " n"], size: Int64[np.ndarray, "2"], who: str
) -> Rings:
    height, width = size.tolist()
    if stated != (height, width):
        raise ValueError(
            f"{who} has run lengths for (height, width) {stated} but the image is {(height, width)}; "
            "encode the mask at the image's size"
        )
    try:
        runs = counts_from_string(counts) if isinstance(counts, str) else counts
        return rings_from_counts(runs, height, width)
    except ValueError as error:
        raise ValueError(f"{who} has malformed run lengths ({error}); correct or remove it") from None


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
