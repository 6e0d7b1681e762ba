"""What a Labelme file says of one image."""

import base64
import binascii
import math
from io import BytesIO
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw, Struct
from PIL import Image

from maskrcnn.data.annotations.non_finite import quote_non_finite
from maskrcnn.data.encodings import decoded
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.curves import box_ring, ellipse_ring
from maskrcnn.data.formats.pieces import Piece, mask_piece, polygon_piece
from maskrcnn.masks import rings_from_polygons

NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
LARGEST_MASK = 1 << 26
"""Pixels of the largest mask of a shape."""
NO_AREA = {"line", "point", "linestrip", "points", "lines", "linestrips"}
"""Shapes that cover nothing."""
POLYGONS = {"polygon", "oriented_rectangle", "rotation", "quadrilateral", ""}
OWN_FIELDS = ("group_id", "flags", "description", "difficult", "score")
"""Fields of a shape that become attributes of the object under the same name."""


class Shape(Struct, gc=False):
    """One shape; fields that Labelme's kin add are `difficult`, `score` and `attributes`."""

    label: str | int | float | None = None
    points: list[list[float]] = []
    shape_type: str | None = None
    mask: str | None = None
    group_id: int | str | None = None
    flags: dict[str, Any] | None = None
    description: str | None = None
    difficult: bool | None = None
    score: float | None = None
    attributes: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """Its shape type in lower case; empty for a polygon of an old version."""
        return (self.shape_type or "").lower()


class LabelFile(Struct):
    """One image; its embedded picture is passed over."""

    shapes: list[Shape]
    image_path: str | None = msgspec.field(name="imagePath", default=None)
    height: int | float | None = msgspec.field(name="imageHeight", default=None)
    width: int | float | None = msgspec.field(name="imageWidth", default=None)
    flags: dict[str, Any] | None = None


class _Loose(Struct):
    """The same with shapes that are read one by one."""

    shapes: list[Raw]
    image_path: Any = msgspec.field(name="imagePath", default=None)
    height: Any = msgspec.field(name="imageHeight", default=None)
    width: Any = msgspec.field(name="imageWidth", default=None)


class _Embedded(Struct):
    image_data: str | None = msgspec.field(name="imageData", default=None)


_file = msgspec.json.Decoder(LabelFile, strict=False)
_loose = msgspec.json.Decoder(_Loose, strict=False)
_shape = msgspec.json.Decoder(Shape, strict=False)
_embedded = msgspec.json.Decoder(_Embedded)


def parse(data: bytes, who: str, faults: Faults) -> tuple[LabelFile, list[str]]:
    """What a file says, and a sentence for each shape that cannot be read.

    who   the file's name, under which odd letters are reported
    Raises ValueError for what is no Labelme file.
    """
    try:
        return _file.decode(data), []
    except NO_JSON as error:
        text, kind = decoded(data)
        if kind is not None:
            faults.add(kind, who)
        try:
            return _parse_loosely(quote_non_finite(text.encode("utf-8", "replace")))
        except NO_JSON:
            raise ValueError(str(error) or "it nests too deeply") from None


def embedded_image(data: bytes) -> bytes | None:
    """The picture that a file holds."""
    try:
        text = _embedded.decode(data).image_data
        return base64.b64decode(text) if text else None
    except (*NO_JSON, ValueError):  # of base64
        return None


def piece_of(shape: Shape) -> Piece:
    """What a shape covers. Raises ValueError, without naming the shape, for one that covers nothing."""
    kind, points = shape.kind, shape.points
    if not set(map(len, points)) <= {2}:
        raise ValueError("expected points of two numbers, x and y")
    if kind in POLYGONS:
        return polygon_piece(points)
    if kind == "mask":
        return _mask(shape)
    if len(points) < 2 or not all(math.isfinite(value) for point in points for value in point):
        raise ValueError(f"expected two finite points of a {kind}, received {points!r:.60}")
    if kind == "rectangle":
        (x1, y1), (x2, y2) = np.min(points, axis=0).tolist(), np.max(points, axis=0).tolist()
        return Piece(rings_from_polygons([box_ring(x1, y1, x2, y2).ravel()]), is_box=True)
    if kind == "circle":
        (x, y), on_it = points[:2]
        radius = math.dist((x, y), on_it)
        return Piece(rings_from_polygons([ellipse_ring(x, y, radius, radius).ravel()]))
    raise ValueError(f"expected a polygon, rectangle, circle or mask, received {kind[:40]!r}")


def _parse_loosely(text: bytes) -> tuple[LabelFile, list[str]]:
    loose = _loose.decode(text)
    shapes, faults = [], []
    for number, raw in enumerate(loose.shapes, 1):
        try:
            shapes.append(_shape.decode(raw))
        except NO_JSON as error:
            faults.append(f"shape {number}: {error}")
    height, width = (value if isinstance(value, int) else None for value in (loose.height, loose.width))
    path = loose.image_path if isinstance(loose.image_path, str) else None
    return LabelFile(shapes, path, height, width), faults


def _mask(shape: Shape) -> Piece:
    if not shape.mask or not shape.points or not all(abs(value) < 1 << 24 for value in shape.points[0]):
        raise ValueError("expected a mask as PNG in base64 and the corners of its box")
    try:
        with Image.open(BytesIO(base64.b64decode(shape.mask)), formats=["PNG"]) as image:
            if image.width * image.height > LARGEST_MASK:
                raise ValueError(f"expected a mask of at most {LARGEST_MASK} pixels, received {image.size}")
            pixels = np.asarray(image)
    except (OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is no PNG ({error})") from None
    mask = np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0)
    left, top = (int(value) for value in shape.points[0])
    return mask_piece(mask, left, top)
