"""Damage every file of a weights folder and of a run's history, bit by bit and cut by cut: none is used in silence.

python tools/torture_weights.py [FLIPS CUTS] takes 1000 and 100, and ends with 1 where damage went unnoticed.
"""

import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from maskrcnn.history import line_of, read_history
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes import read_recipe, write_recipe
from maskrcnn.weights import load_weights, save_weights

TINY = (
    *("model.backbone.kind=resnet18", "model.backbone.width=8", "model.backbone.pretrained=", "model.neck.channels=8"),
    *("model.box_head.hidden=16", "model.mask_head.channels=8", "classes=[cat]", "category_ids=[1]"),
)
ROW = {"epoch": 1, "lr": 0.01, "losses": {"rpn/box": 0.5}, "counts": {}, "total": 0.5, "images_per_second": 2.5}
ROWS = [{"step": step, **ROW} for step in range(10, 200, 10)]


def damaged(content: bytes, flips: int, cuts: int, draw: random.Random) -> Iterator[bytes]:
    """Yield the content with one bit flipped, `flips` times, and cut off somewhere, `cuts` times."""
    for _ in range(flips):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
    for _ in range(cuts):
        yield content[: draw.randrange(len(content))]


def is_silent(use: Callable[[], object]) -> bool:
    """Whether something is used without an error and without a word; tracebacks of other kinds come through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            use()
        except (ValueError, FileNotFoundError, UserWarning):
            return False
    return True


def unnoticed(path: Path, use: Callable[[], object], flips: int, cuts: int) -> int:
    """Count the damages of a file with which it was used in silence; the file is restored."""
    content, count = path.read_bytes(), 0
    for one in damaged(content, flips, cuts, random.Random(path.name)):
        path.write_bytes(one)
        count += is_silent(use)
    path.write_bytes(content)
    return count


def torture(folder: Path, flips: int, cuts: int) -> dict[str, int]:
    """The number of unnoticed damages of each file, all of them made in `folder`."""
    recipe = read_recipe("demo", TINY)
    weights = save_weights(folder / "best", build(recipe.model, 1), recipe, {"segm": {"AP": 0.5}})
    files = sorted(weights.iterdir())
    counts = {path.name: unnoticed(path, lambda: load_weights(weights), flips, cuts) for path in files}
    config, history = folder / "config.yml", folder / "metrics.jsonl"
    write_recipe(recipe, config)
    history.write_bytes(b"".join(map(line_of, ROWS)))
    counts["config.yml of a run"] = unnoticed(config, lambda: read_recipe(config), flips, cuts)
    counts["metrics.jsonl"] = unnoticed(history, lambda: refuse_other_rows(history), flips, cuts)
    return counts


def refuse_other_rows(history: Path) -> None:
    """Read rows, and refuse them where they are those that were written, or some of them: nothing damaged is used."""
    rows = [{name: row[name] for name in ROWS[0]} for row in read_history(history)]
    if all(row in ROWS for row in rows):
        raise ValueError("no row is another than was written")


def main(words: Sequence[str]) -> int:
    """Say how many damages of each file were unnoticed."""
    flips, cuts = map(int, words or ("1000", "100"))
    with tempfile.TemporaryDirectory() as folder:
        counts = torture(Path(folder), flips, cuts)
    for name, count in counts.items():
        print(f"{name}: {flips} flipped bits and {cuts} cuts, {count} used in silence")
    return int(any(counts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
