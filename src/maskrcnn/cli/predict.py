"""`maskrcnn predict`."""

from typing import Annotated, Literal

from typer import Argument, Option

from maskrcnn.cli.options import OUT, WEIGHTS, destination
from maskrcnn.sentences import speaking
from maskrcnn.storage.location import Where

Device = Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"]
Precision = Literal["auto", "fp32", "bf16"]


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
) -> None:
    """Find the objects in images; draw and list them."""
    words = {"device=cpu": "--device cpu", "precision bf16": "--precision bf16", "a pattern with **": "--recursive"}
    with speaking(words):
        find_objects(weights, sources, out, score, device, precision, recursive)


def find_objects(
    weights: str,
    sources: list[str],
    out: Where,
    score: float = 0.5,
    device: Device = "auto",
    precision: Precision = "auto",
    recursive: bool = False,
) -> None:
    """Predict, print a line for each image, and say where the results are; then raise ValueError if some failed."""
    place = destination(out)
    from maskrcnn.predict import load
    from maskrcnn.predict_files import predict_paths
    from maskrcnn.storage.upload import publishing

    predictor = load(weights, device=device, precision=precision)
    with publishing(place) as folder:
        failures = predict_paths(predictor, sources, folder, score, _tell, recursive=recursive)
        print(f"written to {place}")
    if failures:
        number = "1 image" if len(failures) == 1 else f"{len(failures)} images"
        raise ValueError(f"{number} could not be read, the first: {failures[0]}")


def _tell(page: object, found: object) -> None:
    """Print what was found in an image; the sentence why it cannot be read names it already."""
    print(found if isinstance(found, str) else f"{page}: {found}", flush=True)
