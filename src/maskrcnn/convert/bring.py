"""Weights that lie in a store or on a web server, copied here with the recipe beside them."""

from pathlib import Path

from maskrcnn.convert.files import SUFFIXES
from maskrcnn.run_folder import BEST, CONFIG, LAST, MODEL
from maskrcnn.storage.fetch import exists, fetch_file, fetch_folder
from maskrcnn.storage.location import Location


def bring(source: Location) -> Path:
    """Return the path of a copy that `load_any` takes: of a file of weights, a weights folder, or a run's best weights.

    Raises FileNotFoundError where there are no weights, and what `fetch_file` raises.
    """
    suffix = source.suffix.lower()
    if suffix == Path(MODEL).suffix and exists(source.parent / CONFIG):
        return fetch_folder(source.parent, [source.name, CONFIG]) / source.name
    if suffix in SUFFIXES:
        return fetch_file(source)
    for folder in (source, source / BEST, source / LAST):
        if exists(folder / MODEL):
            return fetch_folder(folder, [MODEL, CONFIG])
    raise FileNotFoundError(
        f"no weights at {source}: expected {MODEL} or {BEST}/{MODEL} below it, or a file that ends in "
        f"{', '.join(SUFFIXES)}"
    )
