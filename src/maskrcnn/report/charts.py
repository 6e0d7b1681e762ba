"""Charts as inline SVG, in the colours of the page's CSS, so that they follow its theme."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

LARGE, SMALL = (520, 300), (360, 220)
"""(width, height) of a chart that shares its row with one or with two others: text then looks the same in both."""
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44
MOST_POINTS = 300
"""Most points drawn of one line; more cannot be seen, and make the file heavy."""
OUTLIERS = 0.02
"""Share of the highest values that may leave the top of a chart that is fitted to its data: first steps are wild."""
MOST_DOTS = 30
"""A line of few points shows them."""
NUM_COLORS = 6

Point = tuple[float, float]
Range = tuple[float, float]


class Frame(NamedTuple):
    """Ranges of the axes, and the size of the image they are drawn in."""

    x: Range
    y: Range
    width: int
    height: int

    def place(self, point: Point) -> Point:
        """Where a point is drawn."""
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (self.width - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)


class Line(NamedTuple):
    """One curve; `color` counts the page's colours."""

    name: str
    points: Sequence[Point]
    color: int
    dashed: bool = False


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x: Range | None = None,
    y: Range | None = None,
    size: tuple[int, int] = LARGE,
) -> Markup:
    """A chart with axes, ticks and legend; empty text when no line has a finite point.

    x, y    ranges of the axes; without them they hold the data, and y starts at 0
    """
    lines = [line._replace(points=_thin(_finite(line.points))) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    columns = [point[0] for line in lines for point in line.points]
    highest = max(_high([point[1] for point in line.points]) for line in lines)
    frame = Frame(x or _widened(min(columns), max(columns)), y or _widened(0.0, 1.08 * highest), *size)
    legend = Markup('<div class="legend">{}</div>').format(_join(map(_legend_entry, lines))) if len(lines) > 1 else ""
    drawn = _axes(frame, x_label, y_label) + _join(_curve(line, frame) for line in lines)
    return Markup('{}<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        legend, *size, f"{y_label} over {x_label}", drawn
    )


def matrix_chart(
    names: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]], *, x_label: str, y_label: str
) -> Markup:
    """Counts as a grid of cells, each shaded by its share of its row; `names` name the rows."""
    cell = 34 if len(columns) <= 12 else 20
    left, top = 24 + 6.2 * max(map(len, map(_short, names))), 30 + 4.6 * max(map(len, map(_short, columns)))
    width, height = left + cell * len(columns) + 40, top + cell * len(names) + 8
    parts = [
        _text("axis", left + cell * len(columns) / 2, 12, x_label),
        _upright_text(11, top + cell * len(names) / 2, y_label),
    ]
    for j, column in enumerate(columns):
        transform = f"translate({left + cell * (j + 0.5):.1f} {top - 6:.1f}) rotate(-50)"
        parts.append(Markup('<text class="tick" transform="{}">{}</text>').format(transform, _short(column)))
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        y = top + cell * i
        parts.append(_text("tick", left - 6, y + cell / 2 + 4, _short(name), "end"))
        for j, number in enumerate(row):
            title = f"{name}: {number} as {columns[j]}"
            parts.append(_cell(left + cell * j, y, cell, number, sum(row), title))
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" style="width:{:.0f}px" role="img" aria-label="{}">{}</svg>').format(
        width, height, width, f"{y_label} against {x_label}", _join(parts)
    )


def bar_chart(
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = SMALL,
) -> Markup:
    """Upright bars: for each label one of each series, side by side; empty text when all are zero.

    series   (name, heights), in the order of the page's colours
    """
    highest = max((height for _, heights in series for height in heights), default=0.0)
    if highest <= 0:
        return Markup("")
    frame = Frame((0.0, float(len(labels))), (0.0, 1.08 * highest), *size)
    width = 0.8 / len(series)
    bars = [
        _bar(frame, column + 0.1 + width * number, width, height, number, f"{name}: {height:g} ({label})")
        for number, (name, heights) in enumerate(series)
        for column, (label, height) in enumerate(zip(labels, heights, strict=True))
    ]
    lines = [Line(name, (), number) for number, (name, _) in enumerate(series)]
    legend = Markup('<div class="legend">{}</div>').format(_join(map(_legend_entry, lines))) if len(series) > 1 else ""
    drawn = _axes(frame, x_label, y_label, labels) + _join(bars)
    return Markup('{}<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        legend, *size, f"{y_label} by {x_label}", drawn
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 0.9)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A number as short as an axis wants it.

    >>> tick_text(0.0002), tick_text(0.25), tick_text(1500), tick_text(90000)
    ('2e-4', '0.25', '1.5k', '90k')
    """
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    if value and abs(value) < 0.001:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:g}"


def _axes(frame: Frame, x_label: str, y_label: str, labels: Sequence[str] = ()) -> Markup:
    """Both axes; `labels` stand in the middle between 0, 1, 2, ... in the place of ticks."""
    right, bottom = frame.width - RIGHT, frame.height - BOTTOM
    parts = []
    for value in ticks(*frame.y, most=max(3, frame.height // 50)):
        row = frame.place((frame.x[0], value))[1]
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, row, right))
        parts.append(_text("tick", LEFT - 7, row + 4, tick_text(value), "end"))
    marks = [(number + 0.5, label) for number, label in enumerate(labels)]
    marks = marks or [(value, tick_text(value)) for value in ticks(*frame.x, most=max(3, frame.width // 85))]
    for value, text in marks:
        parts.append(_text("tick", frame.place((value, frame.y[0]))[0], bottom + 17, text))
    parts.append(_text("axis", (LEFT + right) / 2, frame.height - 6, x_label))
    parts.append(_upright_text(12, (TOP + bottom) / 2, y_label))
    return _join(parts)


def _curve(line: Line, frame: Frame) -> Markup:
    points = [(column, max(row, TOP - 4.0)) for column, row in map(frame.place, line.points)]
    path = "M" + "L".join(f"{column:.1f} {row:.1f}" for column, row in points)
    color = f"c{line.color % NUM_COLORS}"
    drawn = Markup('<path class="line {}{}" d="{}"/>').format(color, " dashed" * line.dashed, path)
    if len(points) <= MOST_DOTS:
        drawn += _join(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(color, *p) for p in points)
    return drawn


def _bar(frame: Frame, x: float, width: float, height: float, color: int, title: str) -> Markup:
    left, top = frame.place((x, height))
    right, bottom = frame.place((x + width, 0.0))
    shape = '<rect class="c{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    return Markup(shape).format(color % NUM_COLORS, left, top, right - left, bottom - top, title)


def _legend_entry(line: Line) -> Markup:
    return Markup('<span><i class="c{}{}"></i>{}</span>').format(
        line.color % NUM_COLORS, " dashed" * line.dashed, line.name
    )


def _cell(x: float, y: float, side: int, number: int, whole: int, title: str) -> Markup:
    share = number / whole if whole else 0.0
    drawn = Markup(
        '<rect class="cell" x="{:.1f}" y="{:.1f}" width="{}" height="{}" fill-opacity="{:.3f}"><title>{}</title></rect>'
    ).format(x, y, side - 1, side - 1, share, title)
    if number and side > 30:
        text = str(number) if number < 1000 else f"{float(f'{number / 1000:.2g}'):g}k"
        drawn += _text("over" if share > 0.55 else "tick", x + side / 2 - 0.5, y + side / 2 + 4, text)
    return drawn


def _text(kind: str, x: float, y: float, text: str, anchor: str = "middle") -> Markup:
    shape = '<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(shape).format(kind, x, y, anchor, text)


def _upright_text(x: float, y: float, text: str) -> Markup:
    shape = '<text class="axis" transform="translate({} {:.1f}) rotate(-90)" text-anchor="middle">{}</text>'
    return Markup(shape).format(x, y, text)


def _finite(points: Iterable[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thin(points: list[Point]) -> list[Point]:
    """Means of neighbours, at most `MOST_POINTS`."""
    group = math.ceil(len(points) / MOST_POINTS)
    if group <= 1:
        return points
    chunks = [points[start : start + group] for start in range(0, len(points), group)]
    return [(sum(p[0] for p in chunk) / len(chunk), sum(p[1] for p in chunk) / len(chunk)) for chunk in chunks]


def _high(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[math.ceil((1 - OUTLIERS) * len(ordered)) - 1]


def _widened(low: float, high: float) -> Range:
    """A range of some length."""
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
