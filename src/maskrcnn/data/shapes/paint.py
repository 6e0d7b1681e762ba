"""What the scenes look like: backgrounds, textures, light, grain."""

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from maskrcnn.data.shapes.dice import Color, Dice
from maskrcnn.data.shapes.geometry import Plane, Shape, distance, grid, local, overlap, window

CAMOUFLAGED = 0.08  # share of objects in a colour near the background's
HUES = {"disc": 0.0, "square": 1.2, "triangle": 2.4, "star": 3.6, "ring": 4.8}
"""The middle of each form's colours, in sixths of the colour circle from red."""
HUE_REACH = 0.64
"""To either side: neighbours overlap, so that colour tells most objects and form has to tell the rest."""

Image = Float64[np.ndarray, "h w 3"]
"""Red, green, blue, 0..255."""


def background(dice: Dice, height: int, width: int) -> tuple[Image, tuple[Color, Color]]:
    """Two tones mixed by clouds and, often, stripes; and the tones."""
    first = dice.color(saturation=0.45)
    second = _shift(first, dice, 65)
    amount = _clouds(dice, height, width, cell=dice.uniform(10, 36))
    if dice.happens(0.5):
        x, y = grid((0, 0, height, width))
        amount = 0.6 * amount + 0.4 * _stripes(x, y, dice.direction(), dice.uniform(5, 24))
    return _mix(first, second, amount), (first, second)


def paint(pixels: Image, shape: Shape, dice: Dice, tones: tuple[Color, Color]) -> None:
    """Draw one shape over the image, in place, with soft edges, texture and light from one side."""
    height, width = pixels.shape[:2]
    around = window(shape)
    target, source = overlap(around, height, width)
    x, y = grid(around)
    color = _shift(tones[0], dice, 45) if dice.happens(CAMOUFLAGED) else _contrasting(tones, dice, shape.outline)
    u, v = local(shape, x, y)
    texture = _texture(dice, u, v, shape.radius)
    light_x, light_y = dice.direction()
    light = 1.0 + dice.uniform(0.0, 0.3) * (light_x * u + light_y * v) / shape.radius
    painted = _mix(color, _shift(color, dice, 70), texture) * light[..., None]
    alpha = np.clip(0.5 - distance(shape, x, y), 0.0, 1.0)[..., None]
    pixels[target] += alpha[source] * (painted[source] - pixels[target])


def _texture(dice: Dice, u: Plane, v: Plane, radius: float) -> Plane:
    """How much of the second colour, 0..1: plain, clouds, stripes or checks in the shape's own frame."""
    kind = dice.below(4)
    period = max(4.0, radius * dice.uniform(0.3, 0.8))
    if kind == 1:
        height, width = u.shape
        return _clouds(dice, height, width, period)
    if kind == 2:
        return _stripes(u, v, (1.0, 0.0), period)
    if kind == 3:
        return np.where(_stripes(u, v, (1.0, 0.0), period) > 0.5, 1.0, 0.0) * (_stripes(u, v, (0.0, 1.0), period) > 0.5)
    return np.zeros_like(u)


def _clouds(dice: Dice, height: int, width: int, cell: float) -> Plane:
    """Smooth noise 0..1: random values at the corners of a grid, eased in between."""
    corners = dice.plane(int(height / cell) + 2, int(width / cell) + 2)
    row, row_share = _eased(height, cell)
    column, column_share = _eased(width, cell)
    upper, lower = corners[row], corners[row + 1]
    mixed = upper + (lower - upper) * row_share[:, None]
    left, right = mixed[:, column], mixed[:, column + 1]
    return left + (right - left) * column_share


def _eased(length: int, cell: float) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    position = np.arange(length) / cell
    index = np.floor(position)
    share = position - index
    return index.astype(np.int64), share * share * (3.0 - 2.0 * share)


def _stripes(x: Plane, y: Plane, direction: tuple[float, float], period: float) -> Plane:
    """A triangle wave 0..1 across the plane."""
    phase = (x * direction[0] + y * direction[1]) / period
    return np.abs(2.0 * (phase - np.floor(phase)) - 1.0)


def _mix(first: Color, second: Color, amount: Plane) -> Image:
    return np.asarray(first) + amount[..., None] * (np.asarray(second) - np.asarray(first))


def _shift(color: Color, dice: Dice, reach: float) -> Color:
    """A colour near another."""
    red, green, blue = (min(max(value + dice.uniform(-reach, reach), 5.0), 250.0) for value in color)
    return red, green, blue


def _contrasting(tones: tuple[Color, Color], dice: Dice, outline: str) -> Color:
    """One of the form's colours (any for a bar) that differs visibly from both tones of the background."""
    while True:
        hue = HUES[outline] + dice.uniform(-HUE_REACH, HUE_REACH) if outline in HUES else dice.uniform(0.0, 6.0)
        color = dice.shade(hue)
        if all(sum(abs(a - b) for a, b in zip(color, tone, strict=True)) > 110 for tone in tones):
            return color


def photograph(pixels: Image, dice: Dice) -> UInt8[np.ndarray, "h w 3"]:
    """Some images are a little out of focus; all have grain."""
    if dice.happens(0.3):
        pixels = _blur(_blur(pixels).transpose(1, 0, 2)).transpose(1, 0, 2)
    height, width, _ = pixels.shape
    strength = dice.uniform(3.0, 18.0)
    grain = (dice.plane(height, 3 * width) + dice.plane(height, 3 * width) - 1.0).reshape(height, width, 3)
    return np.clip(np.floor(pixels + strength * grain + 0.5), 0, 255).astype(np.uint8)


def _blur(pixels: Image) -> Image:
    """Weights 1 2 1 down the columns; the border repeats."""
    above = np.concatenate([pixels[:1], pixels[:-1]])
    below = np.concatenate([pixels[1:], pixels[-1:]])
    return 0.25 * above + 0.5 * pixels + 0.25 * below
