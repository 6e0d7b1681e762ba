"""`maskrcnn predict`."""

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
) -> None:
    """Find the objects in images; draw and list them, or write them as labels."""
    words = {"device=cpu": "--device cpu", "precision bf16": "--precision bf16", "a pattern with **": "--recursive"}
    ways = factors(scales), flip, max_pixels
    with speaking({**words, "data.max_pixels": "--max-pixels"}):
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
    from maskrcnn.data.image_file import allow_pixels
    from maskrcnn.predict import load
    from maskrcnn.storage.upload import publishing

    predictor = load(weights, device=device, precision=precision).look(scales=scales, flip=flip)
    if max_pixels is not None:
        allow_pixels(max_pixels)
    if classes:
        predictor = predictor.choose([name.strip() for name in classes.split(",")])
    if tile is not None:
        predictor = predictor.cut(tile)
    with publishing(place) as folder:
        failures = _written(predictor, sources, folder, score, recursive, to)
        print(f"written to {place}")
    if failures:
        number = counted(len(failures), "images")
        raise ValueError(f"{number} could not be read, the first: {failures[0]}")


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
