"""`maskrcnn predict`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from maskrcnn.cli.options import OUT, WEIGHTS, Flip, Scales, Tile, destination, factors
from maskrcnn.sentences import counted, printable, speaking
from maskrcnn.storage.location import Where

if TYPE_CHECKING:
    from maskrcnn.predict import Predictor

Device = Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"]
Precision = Literal["auto", "fp32", "bf16"]
Form = Literal["jsonl", "parquet"]
Proposed = Literal["coco", "yolo", "labelme", "cvat", "via"]


def predict(
    weights: Annotated[str, Argument(metavar="WEIGHTS", help=WEIGHTS)],
    sources: Annotated[list[str], Argument(metavar="SOURCE", help="Images, folders, quoted patterns, or addresses.")],
    out: Annotated[
        str, Option(metavar="DIR", help=f"Where drawn images and predictions.json go, {OUT}.")
    ] = "runs/predict",
    score: Annotated[float, Option(min=0.0, max=1.0, help="Less certain objects are left out.")] = 0.5,
    device: Annotated[Device, Option(help="auto takes an accelerator where there is one.")] = "auto",
    precision: Annotated[Precision, Option(help="auto is that of the weights' recipe.")] = "auto",
    recursive: Annotated[bool, Option("--recursive", help="Search folders below a folder too.")] = False,
    classes: Annotated[
        str, Option(metavar="NAMES", help="Only these classes, such as cat,dog; pet=cat,pet=dog renames them.")
    ] = "",
    tile: Tile = None,
    to: Annotated[
        Proposed | None,
        Option(metavar="FORMAT", help="Write a data set to correct instead: coco, yolo, labelme, cvat or via."),
    ] = None,
    scales: Scales = "",
    flip: Flip = None,
    max_pixels: Annotated[
        int | None, Option(min=1, metavar="NUMBER", help="Open images of up to so many pixels; more may be a bomb.")
    ] = None,
    shard: Annotated[
        str | None,
        Option(metavar="I/N", help="Do the I-th of N shares, from 0; write its one file, whole or not at all."),
    ] = None,
    format: Annotated[
        Form | None, Option(metavar="FORM", help="jsonl or parquet, for the file of a share; jsonl unless given.")
    ] = None,
    draw: Annotated[bool, Option("--draw", help="Draw the images of a share too.")] = False,
    join: Annotated[bool, Option("--join", help="Join the files of all shares in DIR, in order.")] = False,
) -> None:
    """Find the objects in images; draw and list them, or write them as labels."""
    _refuse_contradictions(shard, format, draw, join, to)
    words = {"device=cpu": "--device cpu", "precision bf16": "--precision bf16", "a pattern with **": "--recursive"}
    ways = factors(scales), flip, max_pixels
    with speaking({**words, "data.max_pixels": "--max-pixels"}):
        if join:
            join_shards(sources, out, format or "jsonl", recursive)
        elif shard is not None:
            ready = partial(ready_predictor, weights, device, precision, classes, tile, *ways)
            find_in_shard(ready, sources, out, shard, format or "jsonl", score, recursive, draw)
        else:
            find_objects(weights, sources, out, score, device, precision, recursive, to, classes, tile, *ways)


def find_objects(
    weights: str,
    sources: list[str],
    out: Where,
    score: float = 0.5,
    device: Device = "auto",
    precision: Precision = "auto",
    recursive: bool = False,
    to: Proposed | None = None,
    classes: str = "",
    tile: int | None = None,
    scales: tuple[float, ...] | None = None,
    flip: bool | None = None,
    max_pixels: int | None = None,
) -> None:
    """Predict, print a line for each image, and say where the results are; then raise ValueError if some failed.

    to        the format of the data set to write in place of drawings and predictions.json
    classes   the only ones that are looked for, parted by commas; empty for all
    tile      side of tiles, as `Predictor.cut`; None: as the weights' recipe says
    scales, flip   ways to see each image, see `Predictor.look`
    max_pixels     in place of the `data.max_pixels` of the weights' recipe
    """
    place = destination(out)
    from maskrcnn.storage.upload import publishing

    predictor = ready_predictor(weights, device, precision, classes, tile, scales, flip, max_pixels)
    with publishing(place) as folder:
        failures = _written(predictor, sources, folder, score, recursive, to)
        print(f"written to {place}")
    if failures:
        number = counted(len(failures), "images")
        raise ValueError(f"{number} could not be read, the first: {failures[0]}")


def ready_predictor(
    weights: str,
    device: Device,
    precision: Precision,
    classes: str,
    tile: int | None,
    scales: tuple[float, ...] | None,
    flip: bool | None,
    max_pixels: int | None,
) -> "Predictor":
    """A predictor that looks for what a person asked for, as that person asked. Arguments are `find_objects`'."""
    from maskrcnn.data.image_file import allow_pixels
    from maskrcnn.predict import load

    predictor = load(weights, device=device, precision=precision).look(scales=scales, flip=flip)
    if max_pixels is not None:
        allow_pixels(max_pixels)
    if classes:
        predictor = predictor.choose([name.strip() for name in classes.split(",")])
    return predictor if tile is None else predictor.cut(tile)


def find_in_shard(
    ready: Callable[[], "Predictor"],
    sources: list[str],
    out: Where,
    text: str,
    form: Form,
    score: float,
    recursive: bool,
    draw: bool,
) -> None:
    """Write the file of a share, unless it is there.

    ready   gives the predictor, once it is needed
    text    the share, as `3/10`
    """
    from maskrcnn.predict_shards import is_done, parse_shard, predict_shard
    from maskrcnn.prediction_rows import check_form

    shard, place = parse_shard(text), destination(out)
    check_form(form)
    target = place / shard.name(form)
    if is_done(place, shard, form):
        print(f"shard {shard} is done: {target} is there; remove it to have it predicted anew")
        return
    done = predict_shard(ready(), sources, place, shard, form, score, recursive=recursive, draw=draw)
    for failure in done.failures:
        print(failure)
    images, failed = counted(done.num_images, "images"), len(done.failures)
    unread = f", {failed} of them could not be read and have a line that says why" if failed else ""
    print(f"shard {shard}: {images}, {counted(done.num_objects, 'objects')}{unread}; written to {target}")


def join_shards(sources: list[str], out: Where, form: Form, recursive: bool) -> None:
    """Join the files of all shares to one."""
    from maskrcnn.predict_shards import join

    place = destination(out)
    name, total = join(sources, place, form, recursive=recursive)
    print(f"{counted(total, 'shards')} joined, in order: {place / name}")


def _refuse_contradictions(shard: str | None, form: str | None, draw: bool, join: bool, to: str | None) -> None:
    """Raise ValueError for options that have no effect together."""
    if shard is not None and join:
        raise ValueError("--join joins what --shard wrote; give one of them")
    if to is not None and (shard is not None or join):
        raise ValueError(f"--to {to} writes one data set of all images; leave --shard and --join out")
    if draw and (shard is None or join):
        raise ValueError("--draw has no effect without --shard: all images are drawn then; leave it out")
    if form is not None and shard is None and not join:
        raise ValueError(f"--format {form} has no effect without --shard or --join; leave it out")


def _written(
    predictor: "Predictor", sources: list[str], folder: Path, score: float, recursive: bool, to: Proposed | None
) -> list[str]:
    """Write drawings or a data set; gives the sentences why images could not be read."""
    if to is None:
        from maskrcnn.predict_files import predict_paths

        return predict_paths(predictor, sources, folder, score, _tell, recursive=recursive)
    from maskrcnn.proposals import write_proposals

    done = write_proposals(predictor, sources, folder, to, score, _tell, recursive=recursive)
    for remark in done.remarks:
        print(f"note: {remark}")
    print(f"{to}: {counted(done.num_images, 'images')}, {counted(done.num_objects, 'objects')}")
    return done.failures


def _tell(page: object, found: object) -> None:
    """Print what was found in an image; the sentence why it cannot be read names it already."""
    print(printable(found if isinstance(found, str) else f"{page}: {found}"), flush=True)
