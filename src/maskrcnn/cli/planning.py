"""A folder of data where a recipe is expected: what lies there, and the plan that is made for it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import to_builtins

from maskrcnn.data.formats.archive import is_archive, stem_of
from maskrcnn.data.formats.shards_layout import is_pattern
from maskrcnn.files import atomic_write
from maskrcnn.recipes import read_recipe
from maskrcnn.recipes.adopt import with_settings
from maskrcnn.recipes.find import find_recipe
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.read import read_overrides
from maskrcnn.recipes.write import to_plan
from maskrcnn.run_folder import CONFIG, PLAN, is_run
from maskrcnn.runtime.ranks import find_ranks
from maskrcnn.storage.location import Location, at, is_remote

if TYPE_CHECKING:
    from maskrcnn.config import Recipe

LABELS = (".json", ".xml", ".csv", ".txt", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of files that a data set consists of."""


def is_data(source: str) -> bool:
    """Whether a person named a data set rather than a recipe: an archive, or a folder that is no run and no weights.

    Raises ValueError for a folder that is called like a shipped recipe, and for a file that is neither.
    """
    if is_remote(source):
        return not source.endswith((".yml", ".yaml")) and _holds_shards(source)
    path = Path(source).expanduser()
    if is_archive(path) or is_pattern(path):
        return True
    if path.is_file() and path.suffix.lower() in LABELS:
        raise ValueError(f"{source} is a file of annotations or an image; give the folder that holds both")
    if not path.is_dir() or is_run({one.name for one in path.iterdir()}):
        return False
    if Path(source).name != source:
        return True
    try:
        find_recipe(f"{source}.yml")
    except FileNotFoundError:
        return True
    raise ValueError(
        f"{source} is a folder here, and a recipe that comes with this package; write ./{source} for the data in the "
        f"folder, {source}.yml for the recipe"
    )


def _holds_shards(address: str) -> bool:
    """Whether tars lie at an address; of other data there a recipe says where they are."""
    from maskrcnn.data.remote_shards import holds_shards

    place = at(address)
    return isinstance(place, Location) and holds_shards(place)


def planned(source: str, overrides: Sequence[str], out: Path | None, *, goes_on: bool) -> "Recipe":
    """The recipe for a folder of data: a plan that is made now, or that of the run in `out`, where that goes on.

    A new plan is printed by the first process, and written to `out` where that is given and holds no run.
    """
    before = None if out is None else out / PLAN
    if goes_on and before is not None and before.is_file():
        _say(f"the plan is that of {before}")
        return read_recipe(before, [f"data.dataset_dir={source}", *overrides])
    if not goes_on and out is not None:
        from maskrcnn.train.resume import find_start

        find_start(out, None, _say)  # refuses to write over another run
    recipe, text = make_plan(source, overrides, before or Path(PLAN))
    _say(text)
    if before is not None and not before.with_name(CONFIG).exists() and find_ranks(os.environ).rank == 0:
        write_plan(before, text)
    return recipe


def make_plan(source: str, overrides: Sequence[str], path: Path) -> tuple["Recipe", str]:
    """Look at data and machine; gives the recipe, and its text with a reason for each choice.

    path   where it is going to be written
    """
    from maskrcnn.data.split import open_split
    from maskrcnn.train.pixels import choose_pixels
    from maskrcnn.train.proposal import Choice, look_at_machine, propose

    machine = look_at_machine(_say)
    own = [f"data.dataset_dir={source}", f"name={name_of(source)}", *overrides]
    base = read_recipe(machine.base, own)
    data = open_split(base.data, "train")
    given = dict(read_overrides(overrides).settings)
    pixels = (Choice(*one) for one in choose_pixels(data, base.model.backbone, given) if one[0] not in given)
    said = {name: value for name, value in flatten(to_builtins(base)) if name in given}
    choices = [*propose(data, machine, said), *pixels]
    recipe = with_settings(base, {choice.setting: choice.value for choice in choices}, "plan")
    reasons = {"model.backbone.kind": machine.why} | {choice.setting: choice.reason for choice in choices}
    reasons |= dict.fromkeys(given, "as you said")
    heading = (
        f"A plan for {source}, made for this machine ({machine.name}, {machine.cores} cores). Settings without a\n"
        f"reason are those of the recipe {machine.base}. Edit this file and run it: maskrcnn train {path}"
    )
    return recipe, to_plan(recipe, reasons, heading)


def write_plan(path: Path, text: str) -> None:
    """Write a plan, to its folder, which is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")


def name_of(source: str) -> str:
    """A run's name after its data.

    >>> name_of("/data/My Cells (2).zip")
    'my-cells-2'
    """
    path = Path(source).resolve() if source in (".", "..") else Path(source)
    return re.sub(r"[^\w]+", "-", stem_of(path.name).lower()).strip("-") or "data"


def _say(sentence: str) -> None:
    if find_ranks(os.environ).rank == 0:
        print(sentence, flush=True)
