"""Contact sheets: many small pictures with captions on a few large ones."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from maskrcnn.fonts import typeset
from maskrcnn.picture import save_picture

CELL, CAPTION, GAP, TEXT = (400, 300), 46, 16, 14.0
"""(width, height) of a picture, height of its two lines of caption, space around, size of letters, in pixels."""
COLUMNS, EACH, MOST = 5, 30, 12
"""Pictures in a row, pictures of a sheet, and sheets: of more pictures some are chosen."""
PAPER, INK, FAINT = (246, 247, 249), (28, 35, 48), (93, 103, 120)


class Cell(NamedTuple):
    """A picture of at most `CELL` pixels, and two lines of caption."""

    picture: Image.Image
    title: str
    note: str


class Sheets:
    """Writes `sheet-1.jpg`, ... into a folder while pictures come, and removes those of an earlier run."""

    def __init__(self, folder: Path) -> None:
        for old in folder.glob("sheet-[0-9]*.jpg"):
            old.unlink()
        self._folder, self._cells = folder, list[Cell]()
        self.paths: list[Path] = []

    def add(self, picture: Image.Image, title: str, note: str) -> None:
        """Put a picture on the sheet, which is saved once it is full."""
        small = picture.copy()
        small.thumbnail(CELL, Image.Resampling.LANCZOS)
        self._cells.append(Cell(small, title, note))
        if len(self._cells) == EACH:
            self.save()

    def save(self) -> None:
        """Save the sheet that is not full yet, if there is one."""
        if self._cells:
            self.paths.append(self._folder / f"sheet-{len(self.paths) + 1}.jpg")
            save_picture(draw_sheet(self._cells), self.paths[-1], quality=88)
            self._cells = []


def chosen_for_sheets(count: int) -> set[int]:
    """Which of `count` pictures are put on sheets: all, or as many as there is room for, spread evenly."""
    return set(spread_evenly(count, EACH * MOST))


def spread_evenly(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` things, the first among them.

    >>> spread_evenly(10, 4), spread_evenly(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    count = min(count, total)
    return [number * total // count for number in range(count)]


def draw_sheet(cells: Sequence[Cell]) -> Image.Image:
    """One sheet of pictures with two lines of caption each, in rows that are as many as the pictures need."""
    columns = min(COLUMNS, math.ceil(math.sqrt(len(cells))))
    rows = math.ceil(len(cells) / columns)
    width, height = CELL[0] + GAP, CELL[1] + CAPTION + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, title, note) in enumerate(cells):
        x, y = GAP + number % columns * width, GAP + number // columns * height
        sheet.paste(picture, (x + (CELL[0] - picture.width) // 2, y + (CELL[1] - picture.height) // 2))
        for line, (text, color) in enumerate(((title, INK), (note, FAINT))):
            typeset(_fitted(text, CELL[0]), TEXT).draw(pen, x, y + CELL[1] + 17 + 19 * line, color)
    return sheet


def _fitted(text: str, width: int) -> str:
    """A text that is no wider than some pixels, shortened in its middle where it must be."""
    if _width(text) <= width:
        return text
    few, many = 0, len(text) // 2
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if _width(_shortened(text, middle)) <= width else (few, middle)
    return _shortened(text, few)


def _shortened(text: str, kept: int) -> str:
    return f"{text[:kept]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept :]}"


def _width(text: str) -> float:
    line = typeset(text, TEXT)
    return line.right - line.left
