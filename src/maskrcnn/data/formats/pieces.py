"""Objects that a tool keeps as several shapes: polygons and masks of parts, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from maskrcnn.data.dataset import Flag
from maskrcnn.data.formats.builder import Builder, box_of, join_rings
from maskrcnn.data.formats.one_ring import has_holes, joined, parts
from maskrcnn.masks import Rings, rings_from_bitmap, rings_from_polygons, signed_areas


@dataclass(frozen=True)
class Piece:
    """One shape: a polygon, a box, or a mask."""

    outline: Rings
    is_box: bool = False
    """Whether the tool drew a box."""
    is_mask: bool = False
    """Whether the rings run along the borders of pixels and may be holes."""


def polygon_piece(points: Any) -> Piece:
    """A polygon of points (x, y), in which bridges join parts and holes. Raises ValueError for fewer than three."""
    ring = np.asarray(points, np.float64)
    checked = rings_from_polygons([ring.ravel()])
    corners = {(x, y) for x, y in ring.tolist()}
    if len(corners) == len(ring):
        return Piece(checked)
    outline = parts(ring)
    if not len(outline.points):
        raise ValueError(f"expected a polygon of at least 3 different points, received {len(corners)}")
    return Piece(outline, is_mask=has_holes(outline))


def mask_piece(mask: Bool[ndarray, "h w"], left: int, top: int) -> Piece:
    """A mask whose first pixel lies at (left, top). Raises ValueError for one without pixels."""
    rings = rings_from_bitmap(mask)
    if not len(rings.points):
        raise ValueError("expected a mask with some pixels, received none")
    return Piece(Rings(rings.points + np.array([left, top], np.float32), rings.first), is_mask=True)


def add_pieces(
    builder: Builder, image: int, name: str, pieces: Sequence[Piece], crowd: bool, attributes: Mapping[str, Any]
) -> None:
    """Add the object that consists of some pieces."""
    if len(pieces) == 1 and pieces[0].is_box:
        builder.add_object(image, name, None, box=box_of(pieces[0].outline), crowd=crowd, attributes=attributes)
        return
    is_mask = all(piece.is_mask for piece in pieces) and not _overlap(pieces)
    outlines = [piece.outline for piece in pieces]
    if not is_mask:
        outlines = [_polygons(piece) for piece in pieces]
    flags = Flag.RUN_LENGTHS if is_mask else Flag(0)
    builder.add_object(image, name, join_rings(outlines)[0], flags=flags, crowd=crowd, attributes=attributes)


def _polygons(piece: Piece) -> Rings:
    """A piece as polygons that unite: holes are bridged to what is around them."""
    if not piece.is_mask or not has_holes(piece.outline):
        return piece.outline
    rings = [piece.outline.points[start:stop] for start, stop in pairwise(piece.outline.first.tolist())]
    bodies = np.flatnonzero(signed_areas(piece.outline) > 0).tolist()
    return rings_from_polygons([joined(rings[a:b]).ravel() for a, b in pairwise([*bodies, len(rings)])])


def _overlap(pieces: Sequence[Piece]) -> bool:
    """Whether the boxes of some pieces overlap, so that their masks may."""
    low = np.array([piece.outline.points.min(axis=0) for piece in pieces])
    high = np.array([piece.outline.points.max(axis=0) for piece in pieces])
    common = (np.minimum(high[:, None], high[None]) > np.maximum(low[:, None], low[None])).all(axis=2)
    return int(common.sum()) > len(pieces)
