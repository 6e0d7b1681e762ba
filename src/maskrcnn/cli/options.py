"""What several commands say in the same words."""

import re
import tempfile
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from maskrcnn.files import FULL, explain_full
from maskrcnn.storage.location import Location, Where, at, local

Config = Annotated[
    str, Argument(metavar="CONFIG", help="A recipe (a YAML file, or a name such as `demo`), or a folder of data.")
]
Overrides = Annotated[
    list[str] | None,
    Argument(metavar="key=value", help="Settings that replace the recipe's: train.batch=8 or --train.batch 8."),
]
DataOverrides = Annotated[
    list[str] | None,
    Argument(
        metavar="key=value", help="Settings that replace the recipe's: data.dataset_dir=DIR or --data.dataset_dir DIR."
    ),
]
WEIGHTS = (
    "A run, a weights folder, a checkpoint of any maker, the address of one of these, or a name from "
    "`maskrcnn convert --list`."
)
DataSet = Annotated[
    str, Argument(metavar="DIR|CONFIG", help="A folder or an archive of any known format, an address, or a recipe.")
]

Tile = Annotated[
    int | None, Option(min=0, metavar="PIXELS", help="Cut images into tiles of this side; 0 takes them whole.")
]
Scales = Annotated[
    str, Option(metavar="FACTORS", help="See each image at these sizes, such as 0.75,1,1.25, and merge results.")
]
Flip = Annotated[bool | None, Option("--flip/--no-flip", help="See each image mirrored too, and merge results.")]

OUT = "or an address, such as s3://BUCKET/FOLDER, to which it is uploaded"
"""What help adds to a folder that is written."""


def destination(where: Where) -> Path | Location:
    """The folder that a command writes to, or an address in an object store. Raises as `writable` does."""
    found = at(where)
    return writable(found) if isinstance(found, Path) else found


def writable(folder: Path) -> Path:
    """The folder that a command writes to; it need not be there yet.

    Raises ValueError where nothing can be written, before hours of work are lost to it, and for an address.
    """
    local(re.sub(r"^([\w+.-]{2,}):/", r"\1://", folder.as_posix()))  # a `Path` of an address has lost a slash
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    try:  # permissions do not tell it of /proc, nor of a full disk
        Path(tempfile.mkdtemp(prefix=".maskrcnn-", dir=nearest)).rmdir()
    except OSError as error:
        if error.errno in FULL:
            raise explain_full(folder) from None
        refused = f"nothing can be written to {nearest} ({error.strerror})"
        reason = f"{nearest} is a file" if nearest.is_file() else refused
        raise ValueError(f"{folder} cannot be the output folder: {reason}; choose another one") from None
    return folder


def factors(text: str) -> tuple[float, ...] | None:
    """Numbers parted by commas; None for an empty text. Raises ValueError for what is none.

    >>> factors("0.75, 1")
    (0.75, 1.0)
    """
    try:
        return tuple(map(float, text.split(","))) if text else None
    except ValueError:
        raise ValueError(f"--scales: expected numbers parted by commas, such as 0.75,1,1.25, got {text}") from None
