"""What splits are like: numbers as JSON and as a table, and a page with charts."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Num
from markupsafe import Markup

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.statistics import NEAR, SIZES, Spread, Statistics, count_colours, size_classes, spread
from maskrcnn.files import atomic_write
from maskrcnn.report.annotated import Pixels, read_pixels
from maskrcnn.report.charts import LARGE, Line, bar_chart, line_chart, tick_text
from maskrcnn.report.sheets import spread_evenly
from maskrcnn.report.template import render

PAGE = "statistics.html"
IMAGE_BOUNDS = (250, 500, 750, 1000, 1500, 2000, 4000)
SHAPE_BOUNDS = (0.5, 0.7, 0.9, 1.1, 1.4, 2)
COUNT_BOUNDS = (1, 2, 3, 5, 9, 17, 33, 65, 129)
SIDE_BOUNDS = (8, 16, 32, 48, 96, 192, 384)
SHARE_BOUNDS = (1, 2, 5, 10, 20, 50)
OVERLAP_BOUNDS = (1e-6, 0.1, 0.3, 0.5, 0.7)
"""Where the bars of a chart begin; one more lies below the first."""
BANDS, BAND_COLORS = ("red", "green", "blue"), (3, 2, 0)
"""The bands of a decoded image, and which of the page's colours stand for them."""

Splits = Mapping[str, Statistics]


class Figure(NamedTuple):
    """A chart, what it shows, and what to make of it."""

    title: str
    chart: Markup
    note: str = ""


def sample_colours(data: Dataset, count: int) -> tuple[Int64[np.ndarray, "C 256"], list[str]]:
    """What `count_colours` finds in some images, spread over the split, and a sentence for each that cannot be read."""
    failures: list[str] = []

    def images() -> Iterator[Pixels]:
        for image in spread_evenly(len(data.image_ids), count):
            try:
                yield read_pixels(data, image)
            except (OSError, ValueError) as error:
                failures.append(str(error))

    return count_colours(images()), failures


def as_json(told: Statistics) -> dict[str, Any]:
    """The numbers as JSON has them; null where there are none."""
    columns = told.columns
    return {
        "images": told.images,
        "images_without_objects": told.without_objects,
        "objects": told.objects,
        "crowd_regions": told.crowd_regions,
        "not_learnt": told.not_learnt,
        "image_width": _finite(spread(columns.widths)),
        "image_height": _finite(spread(columns.heights)),
        "image_sizes": [{"width": width, "height": height, "images": n} for width, height, n in told.common_sizes],
        "objects_per_image": _finite(spread(columns.objects_per_image)),
        "object_side": _finite(spread(columns.sides)),
        "object_share_of_image_side": _finite(spread(columns.shares)),
        "object_sizes": dict(zip(SIZES, _sizes(told), strict=True)),
        "overlap": {
            "any": _beyond(columns.overlaps, 0),
            **{name: _beyond(values, NEAR) for name, values in _near(told)},
        },
        "classes": [
            {"name": row.name, "objects": row.objects, "images": row.images}
            | {"median_side": None if math.isnan(row.median_side) else row.median_side}
            | dict(zip(SIZES, row.sizes, strict=True))
            for row in told.classes
        ],
        "colours": {name: band._asdict() for name, band in zip(BANDS, told.bands, strict=False)},
    }


def as_table(splits: Splits) -> list[list[str]]:
    """A few rows to print: the names of the splits, then what is counted, in words, in each."""
    return [["", *splits], *([title, *map(text, splits.values())] for title, text in ROWS.items())]


def write_page(splits: Splits, folder: Path, *, title: str, sample: int) -> Path:
    """Write `statistics.html`.

    title    what the data set is called
    sample   images of each split whose colours were looked at
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = render(
        "numbers.html.jinja",
        title=title,
        table=as_table(splits),
        figures=[figure for figure in _figures(splits) if figure.chart],
        colours=[(name, _colours(told), list(zip(BANDS, told.bands, strict=False))) for name, told in splits.items()],
        sizes={name: told.common_sizes for name, told in splits.items()},
        classes=_classes(splits),
        names=list(splits),
        sample=sample,
    )
    with atomic_write(folder / PAGE) as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / PAGE


def binned(values: Num[np.ndarray, " n"], bounds: Sequence[float]) -> list[float]:
    """Percent of the values below the first bound, from each bound to the next, and from the last on.

    >>> binned(np.array([1, 2, 3, 9]), (2, 5))
    [25.0, 50.0, 25.0]
    """
    counts = np.bincount(np.searchsorted(bounds, values, side="right"), minlength=len(bounds) + 1)
    shares: list[float] = (100 * counts / max(len(values), 1)).tolist()
    return shares


def between(bounds: Sequence[float]) -> list[str]:
    """What bars between some bounds are called.

    >>> between((2, 1500))
    ['<2', '2-1.5k', '≥1.5k']
    """
    texts = list(map(tick_text, bounds))
    return [f"<{texts[0]}", *(f"{low}-{high}" for low, high in pairwise(texts)), f"≥{texts[-1]}"]


def _figures(splits: Splits) -> list[Figure]:
    def bars(
        values: Callable[[Statistics], Any], bounds: Sequence[float], x: str, y: str, labels: Any = None
    ) -> Markup:
        series = [(name, binned(values(told), bounds)) for name, told in splits.items()]
        return bar_chart(labels or between(bounds), series, x_label=x, y_label=f"% of {y}", size=LARGE)

    whole = ["0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "≥129"]
    apart = ["none", "<0.1", *between(OVERLAP_BOUNDS)[2:]]
    return [
        Figure(
            "Objects per image",
            bars(lambda one: one.columns.objects_per_image, COUNT_BOUNDS, "objects", "images", whole),
        ),
        Figure(
            "Sizes of objects",
            bars(lambda one: one.columns.sides, SIDE_BOUNDS, "square root of the area, pixels", "objects"),
            "COCO calls objects below 32 small, from 96 on large. Images are resized before a network sees them.",
        ),
        Figure(
            "Sizes of objects in their images",
            bars(lambda one: 100 * one.columns.shares, SHARE_BOUNDS, "side of the object, % of the image's", "objects"),
            "Objects of a few percent vanish when a large image is made small: tiles keep them.",
        ),
        Figure(
            "Crowding",
            bars(
                lambda one: one.columns.overlaps_in_class,
                OVERLAP_BOUNDS,
                "greatest box IoU in its class",
                "objects",
                apart,
            ),
            f"Of two objects whose boxes overlap by more than the NMS threshold, usually {NEAR}, one is lost.",
        ),
        Figure("Longer sides of images", bars(_longer, IMAGE_BOUNDS, "pixels", "images")),
        Figure("Shapes of images", bars(_shape, SHAPE_BOUNDS, "width over height", "images")),
    ]


def _colours(told: Statistics) -> Markup:
    lines = [
        Line(name, list(enumerate((100 * counts / max(counts.sum(), 1)).tolist())), color)
        for name, color, counts in zip(BANDS, BAND_COLORS, told.colours, strict=False)
    ]
    return line_chart(lines, x_label="value", y_label="% of pixels", x=(0.0, 255.0), size=LARGE)


def _classes(splits: Splits) -> list[tuple[str, list[tuple[int, float, int, str, str]]]]:
    """(name, (objects, percent of the largest class, images, side, sizes) in each split), most objects first."""
    most = [max((row.objects for row in told.classes), default=0) or 1 for told in splits.values()]
    names = list(dict.fromkeys(row.name for told in splits.values() for row in told.classes))
    rows = [{row.name: row for row in told.classes} for told in splits.values()]
    table = []
    for name in names:
        cells = []
        for highest, known in zip(most, rows, strict=True):
            row = known.get(name)
            objects, images, side, sizes = (
                (row.objects, row.images, row.median_side, row.sizes) if row else (0, 0, math.nan, ())
            )
            cells.append((objects, 100 * objects / highest, images, _number(side), " / ".join(map(str, sizes))))
        table.append((name, cells))
    return sorted(table, key=lambda row: [-cell[0] for cell in row[1]])


def _longer(told: Statistics) -> Num[np.ndarray, " N"]:
    return np.maximum(told.columns.widths, told.columns.heights)


def _shape(told: Statistics) -> Num[np.ndarray, " N"]:
    return told.columns.widths / told.columns.heights.clip(1)


def _sizes(told: Statistics) -> list[int]:
    counts: list[int] = np.bincount(size_classes(told.columns.sides**2), minlength=3).tolist()
    return counts


def _near(told: Statistics) -> list[tuple[str, Any]]:
    return [("near", told.columns.overlaps), ("near_in_class", told.columns.overlaps_in_class)]


def _beyond(values: Num[np.ndarray, " n"], bound: float) -> float:
    """Share of the values that are greater."""
    return float(np.count_nonzero(values > bound) / max(len(values), 1))


def _finite(values: Spread) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values._asdict().items()}


def _number(value: float) -> str:
    """A number as a person reads it; a dash where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _percents(shares: Sequence[float]) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares) + " %"


def _range(values: Num[np.ndarray, " n"]) -> str:
    told = spread(values)
    if not told.smallest < told.largest:
        return _number(told.median)
    return f"{_number(told.median)} ({_number(told.smallest)} to {_number(told.largest)})"


def _balance(told: Statistics) -> str:
    counts = sorted((row.objects, row.name) for row in told.classes if row.objects)
    if len(counts) < 2:
        return "-"
    (few, rare), (many, common) = counts[0], counts[-1]
    return f"{rare} {few:,} to {common} {many:,}"


ROWS: Mapping[str, Callable[[Statistics], str]] = {
    "images": lambda told: f"{told.images:,}",
    "without objects": lambda told: f"{told.without_objects:,}",
    "image width": lambda told: _range(told.columns.widths),
    "image height": lambda told: _range(told.columns.heights),
    "objects": lambda told: f"{told.objects:,}",
    "crowd regions": lambda told: f"{told.crowd_regions:,}",
    "left out of learning": lambda told: f"{told.not_learnt:,}",
    "objects per image": lambda told: _range(told.columns.objects_per_image),
    "object side, pixels": lambda told: _range(told.columns.sides),
    "small / medium / large": lambda told: _percents([count / max(told.objects, 1) for count in _sizes(told)]),
    f"box IoU > {NEAR} in class": lambda told: _percents([_beyond(told.columns.overlaps_in_class, NEAR)]),
    "classes with objects": lambda told: f"{sum(row.objects > 0 for row in told.classes)} of {len(told.classes)}",
    "rarest to most frequent": _balance,
    "mean of red, green, blue": lambda told: ", ".join(f"{band.mean:.1f}" for band in told.bands) or "-",
    "their deviation": lambda told: ", ".join(f"{band.std:.1f}" for band in told.bands) or "-",
}
"""Rows of the table: what is told of a split, in words; median (smallest to largest) where one number does not do."""
