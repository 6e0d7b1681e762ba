"""`maskrcnn eval`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from maskrcnn.cli.options import OUT, WEIGHTS, DataOverrides, Flip, Scales, Tile, destination, factors
from maskrcnn.run_folder import is_run
from maskrcnn.sentences import in_lines
from maskrcnn.storage.location import Location, Where, at, printable
from maskrcnn.terminal import bare

if TYPE_CHECKING:
    from maskrcnn.config import Recipe  # takes 30 ms, for which help would have to wait
    from maskrcnn.data.dataset import Dataset

WITHOUT_EFFECT = ("model", "train", "classes", "category_ids")
"""Settings that weights bring with them, besides those of how they see pixels, or that only training has."""


def evaluate(
    config: Annotated[
        str | None, Argument(metavar="CONFIG", help="A recipe, whose validation images are used, or a folder of data.")
    ] = None,
    overrides: DataOverrides = None,
    weights: Annotated[str | None, Option(metavar="WEIGHTS", help=WEIGHTS)] = None,
    annotations: Annotated[
        str | None, Option(metavar="FILE", help="With --predictions: a COCO annotation file.")
    ] = None,
    predictions: Annotated[
        str | None, Option(metavar="FILE", help="With --annotations: a COCO result file to score.")
    ] = None,
    out: Annotated[
        str | None,
        Option(metavar="DIR", help=f"Where scores and report.html go, {OUT}; runs/eval/NAME with a recipe."),
    ] = None,
    max_dets: Annotated[
        int | None,
        Option(
            metavar="N",
            min=1,
            help="Also score with N results of a class in an image, of which COCO counts 100; with a recipe the "
            "setting evaluate.max_dets.",
        ),
    ] = None,
    boundary: Annotated[
        bool,
        Option(
            "--boundary",
            help="With --predictions: also score masks by their boundaries; with a recipe it is the setting "
            "evaluate.boundary.",
        ),
    ] = False,
    tile: Tile = None,
    scales: Scales = "",
    flip: Flip = None,
) -> None:
    """Score weights on validation images, or a result file."""
    if config and weights and not (annotations or predictions):
        if boundary:
            raise ValueError("--boundary goes with --predictions; with a recipe set evaluate.boundary, which is on")
        more = [] if max_dets is None else [f"evaluate.max_dets={max_dets}"]
        score_weights(config, [*(overrides or []), *more, *ways_to_look(tile, scales, flip)], [weights], out)
    elif annotations and predictions and not (config or weights):
        if ways := ways_to_look(tile, scales, flip):
            raise ValueError(f"{', '.join(ways)} cannot change results that are given; predict again with --weights")
        score_predictions(annotations, predictions, out, max_dets, boundary)
    else:
        own = f"; {config} is a run: add --weights {config}" if config and not weights and _is_run(config) else ""
        raise ValueError(f"expected CONFIG with --weights WEIGHTS, or --annotations FILE with --predictions FILE{own}")


def ways_to_look(tile: int | None, scales: str, flip: bool | None) -> list[str]:
    """Settings that options of `maskrcnn predict` are for an evaluation."""
    from maskrcnn.recipes.adopt import tiling

    ways: dict[str, Any] = {"evaluate.scales": factors(scales), "evaluate.flip": flip}
    wanted = ways | ({} if tile is None else tiling(tile))
    return [f"{name}={json.dumps(value)}" for name, value in wanted.items() if value is not None]


def _is_run(config: str) -> bool:
    folder = Path(config)
    return folder.is_dir() and is_run([one.name for one in folder.iterdir()])


def score_weights(config: str, overrides: Sequence[str], weights: Sequence[str], out: Where | None) -> None:
    """Predict, write scores, results and a report, and print the twelve numbers.

    Of several weights each gets a folder of its name in `out`.
    """
    from maskrcnn.cli.planning import is_data, name_of
    from maskrcnn.recipes import read_recipe

    recipe = None if is_data(config) else read_recipe(config, overrides)
    refuse_without_effect(overrides)
    place = destination(out or Path("runs/eval") / (recipe.name if recipe else name_of(config)))
    from maskrcnn.config import Recipe
    from maskrcnn.convert.checkpoint import load_any
    from maskrcnn.evaluate import run
    from maskrcnn.report.page import write_report
    from maskrcnn.runtime.distributed import start
    from maskrcnn.storage.upload import publishing

    device = recipe.device if recipe else recipe_for(config, Recipe(), overrides).device
    with start(device) as world, publishing(place, active=world.is_main) as folder:
        for one in weights:
            name = at(one).name.removesuffix(".safetensors") if len(weights) > 1 else ""
            own = folder / name
            trained = load_any(one)
            mine = recipe or recipe_for(config, trained.recipe, overrides)
            if world.is_main:
                say_sides(mine, trained.recipe)
            data = None if recipe else images_of(mine, trained.recipe)
            metrics = run.run(mine, trained, own, world, ticker() if world.is_main else None, data)
            if metrics:  # only the first of several processes has them
                print(f"{printable(one)} on {metrics['speed']['images']} images of {mine.data.dataset_dir}")
                show(metrics)
                say_where(place / name, write_report(own, data))


def recipe_for(folder: str, trained: "Recipe", overrides: Sequence[str]) -> "Recipe":
    """The recipe of weights, with the data of a folder in place of their own."""
    from maskrcnn.config import Data
    from maskrcnn.recipes.adopt import override, with_settings

    names = (
        "train_img_dir",
        "train_anno_path",
        "val_img_dir",
        "val_anno_path",
        "format",
        "also",
        "remote",
        "read_ahead",
    )
    places = {f"data.{name}": getattr(Data(), name) for name in names} | {"data.dataset_dir": folder}
    if trained.data.dataset_dir != folder:
        places["data.split_file"] = ""
    return override(with_settings(trained, places, folder), overrides, folder)


def images_of(recipe: "Recipe", trained: "Recipe") -> "Dataset | None":
    """All images of a folder without a validation split; None where evaluation opens that split by itself."""
    from maskrcnn.data.split import find_parts, has_validation, is_named, open_split, with_split_of

    data = with_split_of(recipe.data, trained.data)
    for sentence in () if is_named(data) else find_parts(data).said:
        print(sentence, flush=True)
    if has_validation(data):
        return None
    print(f"{data.dataset_dir} has no validation split: all its images are scored, learnt from or not", flush=True)
    return open_split(data, "all")


def say_where(place: Path | Location, report: Path) -> None:
    """Tell where scores and their report are, as the person called it, though an address is written on disk first."""
    print(f"written to {place}\nreport: {place / report.name}", flush=True)


def say_sides(recipe: "Recipe", trained: "Recipe") -> None:
    """Tell where images are resized to other sides than the weights ask for; published numbers are of those."""
    (short, longest), (theirs, their_longest) = ((max(r.data.short_sides), r.data.max_side) for r in (recipe, trained))
    if (short, longest) != (theirs, their_longest):
        boxed = trained.data.fit == "box"
        how = "fitted into a box of {} x {}" if boxed else "resized to a short side of {}, at most {}"
        print(
            f"images are {how.format(short, longest)}; the weights' own are {theirs} and {their_longest}: "
            f"data.short_sides=[{theirs}] data.max_side={their_longest}"
        )


def score_predictions(
    annotations: str, predictions: str, out: Where | None, max_dets: int | None = None, boundary: bool = False
) -> None:
    """Score a result file of any maker, on disk or remote."""
    place = destination(out) if out else None
    from maskrcnn.evaluate.coco import score_files
    from maskrcnn.evaluate.hotcoco_engine import MOST
    from maskrcnn.evaluate.save import save_metrics
    from maskrcnn.report.page import write_report
    from maskrcnn.storage.fetch import fetch_file
    from maskrcnn.storage.upload import publishing

    files = fetch_file(annotations), fetch_file(predictions)
    metrics = score_files(*files, max_dets=max_dets or MOST, boundary=boundary)
    show(metrics, "--max-dets {}")
    if place:
        with publishing(place) as folder:
            save_metrics(folder, metrics)
            say_where(place, write_report(folder))


def refuse_without_effect(overrides: Sequence[str]) -> None:
    """Raise ValueError for settings that an evaluation does not look at."""
    from maskrcnn.recipes.adopt import OF_THE_WEIGHTS
    from maskrcnn.recipes.read import read_overrides

    given, without_effect = read_overrides(overrides).settings, (*WITHOUT_EFFECT, *OF_THE_WEIGHTS)
    idle = [path for path, _ in given if any(f"{path}.".startswith(f"{one}.") for one in without_effect)]
    if idle:
        has = "have" if len(idle) > 1 else "has"
        raise ValueError(
            f"{', '.join(idle)} {has} no effect on an evaluation, since weights bring their network, classes and "
            "normalisation with them; leave out what is not data.*, evaluate.*, device or name"
        )


def show(metrics: Any, how: str = "evaluate.max_dets={}") -> None:
    """The twelve numbers and others, what they do not count, and the speed where it was measured.

    how   what a person types so that more results count
    """
    from maskrcnn.evaluate.coco import table

    print(table(metrics))
    if "uncounted" in metrics:
        print(say_uncounted(metrics["uncounted"], how))
    if "speed" in metrics:
        speed = metrics["speed"]
        print(f"{speed['predict']:.2f} images/s predicting, {speed['evaluate']:.2f} images/s in all")


def say_uncounted(uncounted: Mapping[str, int], how: str) -> str:
    """One sentence about results that nobody looked at."""
    from maskrcnn.evaluate.hotcoco_engine import MOST

    results, among, images, counted, most = (
        uncounted[name] for name in ("results", "among", "images", "counted", "most")
    )
    who = "COCO counts 100" if counted == MOST else f"{counted} count"
    return (
        f"note: {results} of {among} results of {images} image{'s' * (images > 1)} were not looked at, because {who} "
        f"of one class in an image; {how.format(most)} counts them, too"
    )


def ticker() -> Any:
    """Tells on stderr how far an evaluation is: on a terminal in place, elsewhere in a line a minute."""
    from maskrcnn.evaluate.progress_lines import Ticker

    if sys.stderr.isatty():
        terminal = bare(sys.stderr)
        return Ticker(lambda said: print(f"\r\x1b[K{in_lines(said)}\r", end="", file=terminal, flush=True), every=0.5)
    return Ticker(lambda sentence: print(sentence, file=sys.stderr, flush=True), every=60.0)
