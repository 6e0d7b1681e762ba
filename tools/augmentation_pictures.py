"""The pictures of geometric pieces in docs/augmentation.md: `python tools/augmentation_pictures.py`.

One image of the built-in shapes, and beside it what training sees of it in some epochs, a row for each piece.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from maskrcnn.data.oddities import Oddities
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.fonts import typeset
from maskrcnn.recipes import read_recipe
from maskrcnn.report.annotated import draw_shown
from maskrcnn.report.augmented import Draws

OUT = Path(__file__).parents[1] / "docs" / "images" / "augment_geometry.jpg"
ROWS = {
    "scale: [0.5, 1.5]": ["data.augment.scale=[0.5, 1.5]"],
    "scale: [1.5, 3], whole_objects: 1": ["data.augment.scale=[1.5, 3]", "data.augment.whole_objects=1"],
    "angle: 20": ["data.augment.angle=20"],
    "flip_vertical: 0.5": ["data.augment.flip_vertical=0.5"],
    "quarter_turns: true": ["data.augment.quarter_turns=true"],
    "fit: box, scale: [0.1, 2]": ["data.fit=box", "data.max_side=256", "data.augment.scale=[0.1, 2]"],
}
IMAGE, DRAWS, SIDE, GAP, TITLE = 10, 6, 168, 8, 26


def row(folder: Path, title: str, overrides: list[str]) -> Image.Image:
    """An image as it is resized, then as training sees it in each of some epochs."""
    settings = ["data.short_sides=[256]", "data.max_side=512", *overrides]
    recipe = read_recipe("lite", [f"data.dataset_dir={folder}", *settings])
    plain = read_recipe("lite", [f"data.dataset_dir={folder}", *settings[:2], "data.flip=0"])
    data = open_split(recipe.data, "train")
    seen = [Draws(data, plain.data, 1).see(IMAGE, 0, Oddities())]
    draws = Draws(data, recipe.data, DRAWS)
    seen += [draws.see(IMAGE, draw, Oddities()) for draw in range(DRAWS)]
    strip = Image.new("RGB", (GAP + len(seen) * (SIDE + GAP), SIDE + TITLE + GAP), "white")
    typeset(title, 15.0).draw(ImageDraw.Draw(strip), GAP, TITLE - 8, (28, 35, 48))
    for number, shown in enumerate(seen):
        picture = draw_shown(shown, [" "] * len(data.category_names))
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        strip.paste(
            picture, (GAP + number * (SIDE + GAP) + (SIDE - picture.width) // 2, TITLE + (SIDE - picture.height) // 2)
        )
    return strip


def main() -> None:
    """Draw all rows, one below the other."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "shapes", num_train=24, num_val=4, seed=0, side=256)
        strips = [row(Path(folder) / "shapes", title, overrides) for title, overrides in ROWS.items()]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    for number, strip in enumerate(strips):
        sheet.paste(strip, (0, number * strip.height))
    sheet.save(OUT, quality=80, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
