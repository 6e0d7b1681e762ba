"""`maskrcnn convert`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from maskrcnn.cli.options import WEIGHTS, writable
from maskrcnn.sentences import some_of

OF_WEIGHTS = ("model", "data", "evaluate", "classes", "category_ids", "name")
"""What a recipe beside weights says about them."""
Channels = Literal["rgb", "bgr"]
Target = Literal["torchvision", "detectron2", "mindspore"]


def convert(
    source: Annotated[str | None, Argument(metavar="SOURCE", help=WEIGHTS)] = None,
    dest: Annotated[Path | None, Argument(metavar="DEST", help="A weights folder to write; with --to a file.")] = None,
    overrides: Annotated[
        list[str] | None,
        Argument(
            metavar="key=value",
            help="What SOURCE cannot tell of itself: model.backbone.stride_in_1x1=true or classes=[a,b].",
        ),
    ] = None,
    to: Annotated[Target | None, Option(help="Write a file for another system rather than a weights folder.")] = None,
    channels: Annotated[
        Channels | None, Option(help="Order in which SOURCE was fed, where it is not its maker's.")
    ] = None,
    list_: Annotated[bool, Option("--list", help="Print the published checkpoints that have names.")] = False,
) -> None:
    """Bring a checkpoint of another system here, or weights of ours there."""
    if list_:
        from maskrcnn.convert.zoo import table

        print(table())
        return
    if source is None or dest is None:
        raise ValueError("expected SOURCE and DEST, or --list")
    refuse_without_effect(overrides or ())
    if dest.is_file() and to is None:
        raise ValueError(f"{dest} is a file; expected a folder, or --to for a file of another system")
    writable(dest)
    from maskrcnn.convert.checkpoint import load_any
    from maskrcnn.convert.write import export
    from maskrcnn.run_folder import CONFIG
    from maskrcnn.storage.location import printable
    from maskrcnn.weights import save_weights

    weights = load_any(source, overrides or (), channels or "")
    if to is None:
        told = printable(source)
        folder = save_weights(dest, weights.tensors, weights.recipe, {"source": told})
        print(f"{told}: {_about(weights.recipe.model.backbone.kind, weights.recipe.classes)}")
        print(f"written to {folder}; settings in {folder / CONFIG}")
    else:
        for sentence in export(weights, to, dest):
            print(sentence)


def refuse_without_effect(overrides: Sequence[str]) -> None:
    """Raise ValueError for settings that weights do not have."""
    from maskrcnn.recipes.read import read_overrides

    idle = [path for path, _ in read_overrides(overrides).settings if path.partition(".")[0] not in OF_WEIGHTS]
    if idle:
        raise ValueError(f"{', '.join(idle)}: weights have no such setting; expected some of {', '.join(OF_WEIGHTS)}")


def _about(backbone: str, classes: tuple[str, ...]) -> str:
    return f"{backbone}, {len(classes)} classes ({some_of(classes)})"
