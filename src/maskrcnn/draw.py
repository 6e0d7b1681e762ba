"""Drawings for people: translucent masks, smooth outlines, label chips. Pillow alone, names in any script.

Sizes follow the image. One whose longer side is under 400 px is enlarged by a whole factor,
because no label can be read on it otherwise.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFilter

from maskrcnn.fonts import Typeset, note_unreadable, typeset

FILL = 0.36
"""Opacity of a mask: its texture stays visible."""
LABELLED = 0.09
"""Share of the drawing that chips may cover; beyond it the less certain objects go without."""
AT_ONCE = 1 << 20
"""Pixels that are painted at once."""
SMALL, COMFORTABLE = 400, 512
"""Pixels of the longer side: images below the first are enlarged to about the second."""

# Okabe and Ito 2008, then Tol's muted scheme: neighbours differ for the colour-blind too.
PALETTE = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
    (136, 34, 85),
    (68, 170, 153),
    (153, 153, 51),
    (110, 90, 200),
    (170, 68, 153),
)

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]


class Crop(NamedTuple):
    """A mask without most of the empty pixels around it."""

    left: int
    top: int
    bitmap: Bool[np.ndarray, "h w"]


class Style(NamedTuple):
    """Sizes in pixels of the finished drawing."""

    line: float
    text: float
    margin: int


def draw_instances(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[np.ndarray, "n 4"],
    masks: Iterable[Bool[np.ndarray, "h w"] | Crop] | None,
    names: Sequence[str],
    scores: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    *,
    labels: Sequence[int] | None = None,
) -> Image.Image:
    """The image with its objects; `scores` is None for what a person annotated.

    boxes    xyxy pixels of `image`
    masks    one mask for each box, of full size or cropped, taken one at a time; None draws the boxes instead
    labels   decide the colours; without them every name gets the next colour
    Names whose letters no font here has are squares, and a `Note` says so.
    """
    if (scores is not None and len(scores) != len(boxes)) or len(names) != len(boxes):
        given = f"{len(boxes)} boxes, {len(names)} names" + ("" if scores is None else f", {len(scores)} scores")
        raise ValueError(f"expected one name and one score for each box; received {given}")
    note_unreadable(names)
    height, width = image.shape[:2]
    factor = 1 if max(height, width) >= SMALL else math.ceil(COMFORTABLE / max(height, width))
    drawing = Image.fromarray(np.ascontiguousarray(image))
    if factor > 1:
        drawing = drawing.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    style = _style(drawing.size)
    colors = _colors(labels if labels is not None else [list(dict.fromkeys(names)).index(n) + 1 for n in names])
    if masks is None:
        for index in _large_first(boxes):
            _draw_box(drawing, boxes[index] * factor, colors[index], style)
    else:
        for mask, color in zip(masks, colors, strict=True):
            crop = mask if isinstance(mask, Crop) else Crop(0, 0, mask)
            _draw_mask(drawing, crop, (height, width), color, factor, style)
    texts = [name if scores is None else f"{name} {scores[i]:.2f}" for i, name in enumerate(names)]
    _draw_chips(drawing, boxes * factor, texts, colors, scores, style)
    return drawing


def class_color(label: int) -> Color:
    """The colour of label 1, 2, ...; after one round of the palette lighter, then darker ones follow."""
    turn, index = divmod(max(label - 1, 0), len(PALETTE))
    return _tinted(PALETTE[index], (0.0, 0.45, -0.35, 0.25, -0.18)[turn % 5])


def _style(size: tuple[int, int]) -> Style:
    side = math.sqrt(size[0] * size[1])
    text = max(11.0, 0.025 * side)
    return Style(line=max(1.6, side / 280), text=text, margin=max(2, round(0.28 * text)))


def _colors(labels: Iterable[int]) -> list[Color]:
    """Class colours; objects of one class alternate a little, so that neighbours can be told apart."""
    seen: dict[int, int] = {}
    colors = []
    for label in labels:
        number = seen[label] = seen.get(label, -1) + 1
        colors.append(_tinted(class_color(label), (0.0, 0.22, -0.16)[number % 3]))
    return colors


def _tinted(color: Color, amount: float) -> Color:
    """A colour mixed with white for positive, with black for negative amounts."""
    toward = 255 if amount > 0 else 0
    red, green, blue = (round(value + abs(amount) * (toward - value)) for value in color)
    return red, green, blue


def _readable_on(color: Color) -> Color:
    """Black or white, whichever stands out more."""
    return (0, 0, 0) if _luminance(color) > 0.22 else (255, 255, 255)


def _luminance(color: Color) -> float:
    red, green, blue = ((value / 255) ** 2.2 for value in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _large_first(boxes: Float[np.ndarray, "n 4"]) -> list[int]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.argsort(-areas, kind="stable").tolist()


def _draw_mask(
    drawing: Image.Image, mask: Crop, size: tuple[int, int], color: Color, factor: int, style: Style
) -> None:
    """Fill and outline a mask, some rows after the others: numbers of all pixels at once take too much room.

    size   (height, width) of the image before it was enlarged
    """
    rows, columns = np.flatnonzero(mask.bitmap.any(axis=1)), np.flatnonzero(mask.bitmap.any(axis=0))
    if not len(rows):
        return
    blur = 0.5 * style.line + 1.1 + 0.35 * (factor - 1)
    pad = math.ceil(3 * blur / factor) + 1
    top, bottom = _around(mask.top, rows, pad, size[0])
    left, right = _around(mask.left, columns, pad, size[1])
    step, seen = max(1, AT_ONCE // ((right - left) * factor**2)), 2 * pad
    for start in range(top, bottom, step):
        stop = min(start + step, bottom)
        around = max(start - seen, top), min(stop + seen, bottom)
        soft = _blurred(_window(mask, *around, left, right), factor, blur)
        soft = soft[(start - around[0]) * factor : (stop - around[0]) * factor]
        _paint(drawing, (left * factor, start * factor), soft, color, style.line, blur)


def _around(start: int, filled: Int64[np.ndarray, " n"], pad: int, length: int) -> tuple[int, int]:
    """The first pixel that a mask and some pixels around it have along an axis, and the one after the last.

    start    of its bitmap in an image of a length
    filled   rows or columns of its bitmap that are not empty
    """
    return max(start + int(filled[0]) - pad, 0), min(start + int(filled[-1]) + 1 + pad, length)


def _window(mask: Crop, top: int, bottom: int, left: int, right: int) -> UInt8[np.ndarray, "h w"]:
    """Part of an image: 255 where the mask is, else 0."""
    window = np.zeros((bottom - top, right - left), np.uint8)
    height, width = mask.bitmap.shape
    y1, y2 = max(top, mask.top), min(bottom, mask.top + height)
    x1, x2 = max(left, mask.left), min(right, mask.left + width)
    if y1 < y2 and x1 < x2:
        inner = mask.bitmap[y1 - mask.top : y2 - mask.top, x1 - mask.left : x2 - mask.left]
        window[y1 - top : y2 - top, x1 - left : x2 - left] = 255 * inner.astype(np.uint8)
    return window


def _blurred(window: UInt8[np.ndarray, "h w"], factor: int, blur: float) -> UInt8[np.ndarray, "H W"]:
    image = Image.fromarray(window)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(blur)))


def _paint(
    drawing: Image.Image,
    corner: tuple[int, int],
    soft: UInt8[np.ndarray, "h w"],
    color: Color,
    line: float,
    blur: float,
) -> None:
    """Fill a mask and draw its outline, which follows the half-way line of the blurred mask: no staircases.

    corner   (x, y) of its part of the drawing
    soft     the blurred mask
    """
    # Across a straight edge a blurred step rises by 1 / (blur sqrt(2 pi)) for each pixel.
    inward = (soft.astype(np.float32) / 255 - 0.5) * (blur * math.sqrt(2 * math.pi))
    (x, y), (height, width) = corner, soft.shape
    region = np.asarray(drawing.crop((x, y, x + width, y + height))).astype(np.float32)
    _blend(region, color, FILL * np.clip(inward + 0.5, 0, 1))
    reach = 0.5 * line + 0.5
    _blend(region, _readable_on(color), 0.5 * np.clip(reach + 0.3 * line - np.abs(inward), 0, 1) * (inward < 0))
    _blend(region, color, np.clip(reach - np.abs(inward), 0, 1))
    drawing.paste(Image.fromarray(np.clip(region + 0.5, 0, 255).astype(np.uint8)), corner)


def _draw_box(drawing: Image.Image, box: Float[np.ndarray, "4"], color: Color, style: Style) -> None:
    width, height = drawing.size
    thick = max(1, round(style.line))
    x1, y1 = int(np.clip(box[0], 0, width - 1)), int(np.clip(box[1], 0, height - 1))
    x2, y2 = int(np.clip(math.ceil(box[2]), x1 + 1, width)), int(np.clip(math.ceil(box[3]), y1 + 1, height))
    for rows in ((y1, min(y1 + thick, y2)), (max(y2 - thick, y1), y2)):
        drawing.paste(color, (x1, rows[0], x2, rows[1]))
    for columns in ((x1, min(x1 + thick, x2)), (max(x2 - thick, x1), x2)):
        drawing.paste(color, (columns[0], y1, columns[1], y2))


def _blend(region: Float[np.ndarray, "h w 3"], color: Color, alpha: Float[np.ndarray, "h w"]) -> None:
    region += alpha[..., None] * (np.asarray(color, dtype=np.float32) - region)


def _draw_chips(
    drawing: Image.Image,
    boxes: Float[np.ndarray, "n 4"],
    texts: Sequence[str],
    colors: Sequence[Color],
    scores: Sequence[float] | Float[np.ndarray, " n"] | None,
    style: Style,
) -> None:
    """Draw labels, the most certain first, each where it hides no other, or not at all."""
    order = _large_first(boxes) if scores is None else np.argsort(-np.asarray(scores), kind="stable").tolist()
    room = LABELLED * drawing.width * drawing.height
    placed: list[Rectangle] = []
    for index in order:
        text = typeset(texts[index], style.text)
        size = _chip_size(text, style)
        rectangle = _free_rectangle(boxes[index], size, drawing.size, placed)
        room -= size[0] * size[1]
        if rectangle is None or (room < 0 and placed):
            continue
        placed.append(rectangle)
        _draw_chip(drawing, rectangle, text, colors[index], style)


def _chip_size(text: Typeset, style: Style) -> tuple[int, int]:
    """(width, height); the height is the same for every text in the usual font."""
    return (
        math.ceil(text.right - text.left) + 2 * style.margin,
        math.ceil(text.bottom - text.top) + 2 * style.margin,
    )


def _free_rectangle(
    box: Float[np.ndarray, "4"], size: tuple[int, int], drawing: tuple[int, int], placed: Sequence[Rectangle]
) -> Rectangle | None:
    """Room for a chip above the box, else inside, below or at its right: the first in the drawing that is free."""
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    width, height = size
    above, left, right = y1 - height, x1, x2 - width
    for x, y in ((left, above), (left, y1), (left, y2), (right, above), (right, y2 - height), (left, y2 - height)):
        x = min(max(x, 0), max(drawing[0] - width, 0))
        here = (x, y, x + width, y + height)
        if 0 <= y <= drawing[1] - height and not any(_overlap(here, other) for other in placed):
            return here
    return None


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw_chip(drawing: Image.Image, rectangle: Rectangle, text: Typeset, color: Color, style: Style) -> None:
    x1, y1, x2, y2 = rectangle
    width, height, fine = x2 - x1, y2 - y1, 4
    shape = Image.new("L", (width * fine, height * fine))
    corners = (0, 0, width * fine - 1, height * fine - 1)
    ImageDraw.Draw(shape).rounded_rectangle(corners, radius=fine * style.margin, fill=235)
    drawing.paste(color, (x1, y1), shape.reduce(fine))
    start = x1 + style.margin - text.left, y1 + style.margin - text.top
    text.draw(ImageDraw.Draw(drawing), *start, _readable_on(color))
