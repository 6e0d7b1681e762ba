"""Shapes of CVAT's XML."""

import math
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from maskrcnn.data.formats.curves import box_ring, ellipse_ring
from maskrcnn.data.formats.pieces import Piece, mask_piece, polygon_piece
from maskrcnn.masks import rings_from_polygons

NO_AREA = {"polyline", "points", "cuboid", "skeleton", "tag"}
"""Shapes that are no outline."""
LARGEST_MASK = 1 << 26
"""Pixels of the largest mask of a shape."""
CROWD = ("is_crowd", "iscrowd")
"""Attributes of a crowd region."""


def piece_of(shape: Element) -> Piece:
    """What a shape covers. Raises ValueError, without naming the shape, for one that cannot be read."""
    if shape.tag == "polygon":
        return polygon_piece(_points(shape.get("points", "")))
    if shape.tag == "mask":
        left, top = (_whole(shape, name) for name in ("left", "top"))
        return mask_piece(_mask(shape), left, top)
    turned = _number(shape, "rotation", 0.0)
    if shape.tag == "box":
        x1, y1, x2, y2 = (_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        ring = box_ring(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2), turned)
        return Piece(rings_from_polygons([ring.ravel()]), is_box=turned % 360 == 0)
    if shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
        ring = ellipse_ring(x, y, rx, ry, turned)
        return Piece(rings_from_polygons([ring.ravel()]))
    raise ValueError(f"expected a box, polygon, mask or ellipse, received {shape.tag[:40]!r}")


def attributes_of(shape: Element) -> tuple[dict[str, Any], bool]:
    """(what else a shape says, whether it is a crowd region). Values are text but for true and false."""
    found: dict[str, Any] = {}
    for attribute in shape.iterfind("attribute"):
        text = (attribute.text or "").strip()
        found[attribute.get("name", "")] = {"true": True, "false": False}.get(text, text)
    crowd = any(found.pop(name, False) in (True, "1") for name in CROWD)
    if shape.get("occluded") == "1":
        found["occluded"] = True
    for name in ("group_id", "z_order"):
        number = shape.get(name, "0")
        if number not in ("", "0"):
            found[name] = int(number) if number.lstrip("-").isdecimal() and len(number) < 10 else number
    return found, crowd


def _points(text: str) -> list[list[float]]:
    try:
        points = [[float(number) for number in pair.split(",")] for pair in text.split(";") if pair.strip()]
    except ValueError:
        raise ValueError(f"expected points x,y;x,y;..., received {text[:60]!r}") from None
    if any(len(point) != 2 for point in points):
        raise ValueError(f"expected points x,y;x,y;..., received {text[:60]!r}")
    return points


def _mask(shape: Element) -> Bool[ndarray, "h w"]:
    """Run lengths along the rows of the mask's box, background first."""
    height, width = _whole(shape, "height"), _whole(shape, "width")
    try:
        counts = np.array([int(word) for word in shape.get("rle", "").split(",")], np.int64)
    except (ValueError, OverflowError):
        raise ValueError(f"expected run lengths, received {shape.get('rle', '')[:60]!r}") from None
    if not 0 < height * width <= LARGEST_MASK:
        raise ValueError(f"expected a mask of 1 to {LARGEST_MASK} pixels, received {width} x {height}")
    if (counts < 0).any() or (counts > LARGEST_MASK).any() or counts.sum() != height * width:
        raise ValueError(f"expected run lengths that sum to {width} x {height}, received {counts.sum()}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


def _number(shape: Element, name: str, default: float | None = None) -> float:
    text = shape.get(name)
    if text is None and default is not None:
        return default
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number as `{name}`, received {text!r:.40}")
    return number


def _whole(shape: Element, name: str) -> int:
    number = _number(shape, name)
    if number % 1 or abs(number) >= 1 << 24:
        raise ValueError(f"expected a whole number of pixels as `{name}`, received {shape.get(name)!r:.40}")
    return int(number)
