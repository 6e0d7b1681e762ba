"""Weights that lie in a store or on a web server, copied here with the recipe beside them."""

from pathlib import Path

from maskrcnn.convert.files import SUFFIXES
from maskrcnn.run_folder import BEST, CHECKSUMS, CONFIG, LAST, MODEL
from maskrcnn.storage.fetch import fetch_file, fetch_folder, first_there
from maskrcnn.storage.location import Location


def bring(source: Location) -> Path:
    """Return the path of a copy that `load_any` takes: of a file of weights, a weights folder, or a run's best weights.

    Raises FileNotFoundError where there are no weights, and what `fetch_file` raises.
    """
    suffix = source.suffix.lower()
    if suffix == Path(MODEL).suffix and first_there([source.parent / CONFIG, source]) == source.parent / CONFIG:
        return fetch_folder(source.parent, [source.name, CONFIG, *_sums(source.parent)]) / source.name
    if suffix in SUFFIXES:
        return fetch_file(source)
    found = first_there([folder / MODEL for folder in (source, source / BEST, source / LAST)])
    if isinstance(found, Location):
        return fetch_folder(found.parent, [MODEL, CONFIG, *_sums(found.parent)])
    raise FileNotFoundError(
        f"no weights at {source}: expected {MODEL} or {BEST}/{MODEL} below it, or a file that ends in "
        f"{', '.join(SUFFIXES)}"
    )


def _sums(folder: Location) -> list[str]:
    """The file by which damage is noticed, where the weights have one and that can be asked."""
    try:
        return [CHECKSUMS] if first_there([folder / CHECKSUMS]) else []
    except OSError:
        return []
