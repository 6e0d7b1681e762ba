"""`maskrcnn train`."""

import os
import time
from pathlib import Path
from typing import Annotated

from typer import Option

from maskrcnn.cli.options import OUT, WEIGHTS, Config, Overrides, destination
from maskrcnn.runtime.ranks import find_ranks
from maskrcnn.sentences import typed
from maskrcnn.storage.location import printable
from maskrcnn.train.restart import goes_on


def train(
    config: Config,
    overrides: Overrides = None,
    resume: Annotated[
        str | None,
        Option(metavar="auto|PATH", help="Continue from the newest checkpoint in --out, or of a path or address."),
    ] = None,
    weights: Annotated[str | None, Option(metavar="WEIGHTS", help=f"Begin with these. {WEIGHTS}")] = None,
    out: Annotated[
        str | None, Option(metavar="DIR", help=f"The run's folder, {OUT}; runs/train/NAME unless given.")
    ] = None,
) -> None:
    """Train on a folder of data, or what a recipe describes.

    For a folder of images and annotations, of any known format, a plan is made, printed and kept as DIR/plan.yml.
    """
    begun = time.perf_counter()
    from maskrcnn.cli.planning import is_data, name_of, planned
    from maskrcnn.recipes import read_recipe

    if is_data(config):
        folder = destination(out or Path("runs/train") / name_of(config))
        own = folder if isinstance(folder, Path) else None
        again = resume is not None or (own is not None and goes_on(own, os.environ))
        recipe = planned(config, overrides or (), own, goes_on=again)
    else:
        recipe = read_recipe(config, overrides or ())  # first: a mistake in it is told before torch is imported
        folder = destination(out or Path("runs/train") / recipe.name)
    from maskrcnn.train import loop

    if weights is None:
        loop.run(recipe, folder, resume, begun=begun)
        return
    from maskrcnn.convert.checkpoint import load_any
    from maskrcnn.recipes.adopt import refuse_other_pixels, with_live_norm, with_network_of
    from maskrcnn.recipes.read import read_overrides

    if "model.backbone.pretrained" in dict(read_overrides(overrides or ()).settings):
        raise ValueError(
            f"model.backbone.pretrained has no effect on a run that begins with {typed('--weights')} "
            f"{printable(weights)}; leave one out"
        )
    begin = load_any(weights)
    if typed("--weights") == typed("--resume"):  # a door's one flag for both
        _say_that_it_begins(weights)
    theirs = with_live_norm(begin.recipe, recipe)
    adopted = with_network_of(recipe, theirs, overrides or ())
    refuse_other_pixels(recipe, adopted, seen=is_data(config))
    loop.run(adopted, folder, resume, begin, begun=begun)


def _say_that_it_begins(weights: str) -> None:
    if find_ranks(os.environ).rank == 0:
        print(
            f"{printable(weights)} holds weights alone, with which a run begins at its first step: no exact resume, "
            f"which {typed('--resume')} gives for a run's folder or its step-<n>",
            flush=True,
        )
