"""Outlines, bitmaps and COCO run lengths of objects, and the exact ways between them.

An outline is a set of closed rings of points (x, y) in continuous pixels: pixel (row i, column j) covers
[j, j + 1] x [i, i + 1]. Inside is where the winding number is not zero. The body runs the way that makes
x dy - y dx positive (clockwise on the screen), holes the other way.

Run lengths count pixels down the columns, first background, then foreground, in turn. COCO's file format writes
them as a list of integers, or as a string of characters with 5 bits each.

All kernels are serial and release the GIL: they run inside the threads of a loader. Numba infers their types.
"""

from maskrcnn.masks.bitmaps import bitmap_from_counts, counts_from_bitmap
from maskrcnn.masks.clipped import clip_rings, clipped
from maskrcnn.masks.coordinates import decimals
from maskrcnn.masks.drawn import Window, bitmap_from_rings, window_of
from maskrcnn.masks.ids import IdMask, masks_of_ids, parts_of_bitmap
from maskrcnn.masks.rings import (
    Outline,
    Rings,
    counts_from_rings,
    edges_from_rings,
    outlines_from_runs,
    polygons_from_bitmap,
    rings_from_bitmap,
    rings_from_counts,
    rings_from_polygons,
    signed_areas,
)
from maskrcnn.masks.simplify import simplified
from maskrcnn.masks.strings import counts_from_string, string_from_counts, strings_from_counts

__all__ = [
    "IdMask",
    "Outline",
    "Rings",
    "Window",
    "bitmap_from_counts",
    "bitmap_from_rings",
    "clip_rings",
    "clipped",
    "counts_from_bitmap",
    "counts_from_rings",
    "counts_from_string",
    "decimals",
    "edges_from_rings",
    "masks_of_ids",
    "outlines_from_runs",
    "parts_of_bitmap",
    "polygons_from_bitmap",
    "rings_from_bitmap",
    "rings_from_counts",
    "rings_from_polygons",
    "signed_areas",
    "simplified",
    "string_from_counts",
    "strings_from_counts",
    "window_of",
]
