"""The `segmentation` fields of an annotation file, packed as rings."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float32, Int64
from msgspec import Struct

from maskrcnn.data.annotation_file import AnnotationEntry
from maskrcnn.masks import Rings, counts_from_string, rings_from_counts, rings_from_polygons

CHUNK = 4096  # annotations decoded at once: bounds the memory that Python numbers take


class _RunLengths(Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


_Segmentation = list[list[float]] | _RunLengths | None


def pack_outlines(
    rows: Sequence[AnnotationEntry], boxes: Float32[np.ndarray, "n 4"], sizes: Int64[np.ndarray, "n 2"], path: Path
) -> tuple[Rings, Int64[np.ndarray, " n+1"], list[str]]:
    """Rings of all objects in order, the first ring of each object, and sentences about what was repaired.

    Polygons of fewer than three points are left out; an object with no outline at all gets its box as outline.
    """
    pieces: list[Rings] = []
    owners: list[Int64[np.ndarray, " r"]] = []
    num_short = num_boxes = 0
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        polygons: list[list[float]] = []
        polygon_owners: list[int] = []
        for index, segmentation in enumerate(_decode(chunk, path), start):
            if isinstance(segmentation, _RunLengths):
                rings = _run_length_rings(segmentation, rows[index], sizes[index], path)
                if len(rings.first) > 1:
                    pieces.append(rings)
                    owners.append(np.full(len(rings.first) - 1, index))
                    continue
                whole = []
            else:
                whole = [polygon for polygon in segmentation or () if len(polygon) >= 6]
                num_short += len(segmentation or ()) - len(whole)
            if not whole:
                num_boxes += 1
                whole = [_rectangle(boxes[index])]
            polygons.extend(whole)
            polygon_owners.extend([index] * len(whole))
        if polygons:
            pieces.append(_polygon_rings(polygons, polygon_owners, rows, path))
            owners.append(np.array(polygon_owners))
    rings, first_ring = _arrange(pieces, owners, len(rows))
    notes = []
    if num_short:
        notes.append(f"{num_short} polygons of fewer than three points are left out")
    if num_boxes:
        notes.append(f"{num_boxes} objects have no outline; their boxes stand in for it")
    return rings, first_ring, notes


def _decode(rows: Sequence[AnnotationEntry], path: Path) -> list[_Segmentation]:
    text = b"[" + b",".join([row.segmentation for row in rows]) + b"]"
    try:
        return msgspec.json.decode(text, type=list[_Segmentation])
    except msgspec.DecodeError:
        for row in rows:
            try:
                msgspec.json.decode(row.segmentation, type=_Segmentation)
            except msgspec.DecodeError as error:
                raise ValueError(
                    f"{path}: annotation {row.id} of image {row.image_id} has a segmentation that is neither polygons "
                    f"nor run lengths ({error}); correct or remove it"
                ) from None
        raise


def _run_length_rings(runs: _RunLengths, row: AnnotationEntry, size: Int64[np.ndarray, "2"], path: Path) -> Rings:
    height, width = size.tolist()
    who = f"{path}: annotation {row.id} of image {row.image_id}"
    if runs.size != (height, width):
        raise ValueError(
            f"{who} has run lengths for (height, width) {runs.size} but the image is {(height, width)}; "
            "encode the mask at the image's size"
        )
    try:
        counts = counts_from_string(runs.counts) if isinstance(runs.counts, str) else runs.counts
        return rings_from_counts(counts, height, width)
    except ValueError as error:
        raise ValueError(f"{who} has malformed run lengths ({error}); correct or remove it") from None


def _rectangle(box: Float32[np.ndarray, "4"]) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def _polygon_rings(
    polygons: Sequence[Sequence[float]], owners: Sequence[int], rows: Sequence[AnnotationEntry], path: Path
) -> Rings:
    try:
        return rings_from_polygons(polygons)
    except ValueError:
        for polygon, owner in zip(polygons, owners, strict=True):
            try:
                rings_from_polygons([polygon])
            except ValueError as error:
                row = rows[owner]
                raise ValueError(
                    f"{path}: annotation {row.id} of image {row.image_id} has a malformed outline ({error}); "
                    "correct or remove it"
                ) from None
        raise


def _arrange(
    pieces: Sequence[Rings], owners: Sequence[Int64[np.ndarray, " _"]], num_objects: int
) -> tuple[Rings, Int64[np.ndarray, " {num_objects}+1"]]:
    """All rings in the order of their objects."""
    if not pieces:
        return Rings(np.zeros((0, 2), np.float32), np.zeros(1, np.int32)), np.zeros(num_objects + 1, np.int64)
    owner = np.concatenate(owners)
    lengths = np.concatenate([np.diff(piece.first) for piece in pieces]).astype(np.int64)
    points = np.concatenate([piece.points for piece in pieces])
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(owner, kind="stable")
    first = np.concatenate([[0], np.cumsum(lengths[order])])
    source = np.arange(len(points)) + np.repeat(starts[order] - first[:-1], lengths[order])
    first_ring = np.searchsorted(owner[order], np.arange(num_objects + 1))
    return Rings(points[source], first.astype(np.int32)), first_ring.astype(np.int64)
