"""Predictions as a data set, for a person to correct in a labelling tool."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from PIL import Image

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.decode import probe, read_image
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.pages import Page
from maskrcnn.data.sources import find_images
from maskrcnn.data.tar_members import tar_of
from maskrcnn.instances import Instances
from maskrcnn.masks import Rings, counts_from_string, rings_from_counts, signed_areas, simplified
from maskrcnn.picture import picture, save_picture
from maskrcnn.predict import Predictor
from maskrcnn.predict_files import FreeNames, predicted
from maskrcnn.runtime.warm import ENCODED, warm
from maskrcnn.sentences import some_of
from maskrcnn.storage.location import Location, Where

SHOWN = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp"}
"""Formats that every labelling tool shows, and the ending that it expects."""

FINEST, COARSEST, GROWTH = 0.3, 1.0, 80.0
"""Pixels that outlines may stray from their masks: of the smallest and of the largest objects, and in how many pixels
of an object's side it grows by one. Round objects keep an IoU of 0.98 and a tenth to a half of their points."""


@dataclass(frozen=True)
class Written:
    """What became of the images."""

    failures: list[str]
    """Why some could not be read, one sentence each."""
    remarks: list[str]
    """What the data set does not hold as it was, one sentence each."""
    num_images: int
    num_objects: int


def write_proposals(
    predictor: Predictor,
    sources: Iterable[Where],
    dest: Path,
    form: str,
    score: float = 0.5,
    progress: Callable[[Page, Instances | str], None] | None = None,
    *,
    recursive: bool = False,
) -> Written:
    """Write images and the objects found in them as a data set of the folder `dest`, with the weights' classes.

    sources, score, progress, recursive   as of `predict_paths`
    form                                  a name of `FORMATS`
    Objects carry their `score` where the format has a place for it. Images lie in one folder, below which those of
    folders keep theirs; what labelling tools do not show, such as HEIC and pages of a TIFF, is written as PNG.
    Raises ValueError where the folder is not empty or no image could be read, and what finding images raises.
    """
    if dest.exists() and any(dest.iterdir()):
        raise ValueError(f"{dest} is not empty; give a new folder for the data set")
    names = find_images(sources, recursive=recursive, without=dest)
    failures: list[str] = []
    warm(ENCODED)
    with TemporaryDirectory(prefix="maskrcnn-") as temporary:
        gathered = Gathered(Path(temporary), dest, predictor.classes)
        for page, result in predicted(predictor, list(names), score):
            if isinstance(result, str):
                failures.append(result)
            else:
                gathered.add(page, names[page.path], result)
            if progress is not None:
                progress(page, result)
        if gathered.is_empty:
            raise ValueError(f"no image could be read, so that there is no data set to write: {failures[0]}")
        data = gathered.dataset(predictor.category_ids)
        remarks = [*gathered.remarks(), *FORMATS[form].write({"": data}, dest)]
    return Written(failures, remarks, len(data.image_ids), len(data.labels))


def correctable(exact: Rings) -> tuple[Rings, Flag]:
    """The outline of a mask as a person can move it, by few points; one with holes stays the mask that it is.

    Small objects keep more of their points: their shape is a matter of pixels.
    """
    areas = signed_areas(exact)
    if (areas < 0).any():
        return exact, Flag.RUN_LENGTHS
    return simplified(exact, min(COARSEST, FINEST + math.sqrt(areas.sum()) / GROWTH)), Flag(0)


class Gathered:
    """Images, put into a folder for a while, and the objects that were found in them.

    folder    where they are put
    dest      what messages call the data set
    classes   in the order of their labels
    """

    def __init__(self, folder: Path, dest: Path, classes: Sequence[str]) -> None:
        self._folder = folder
        self._builder = Builder(dest, folder, Faults(), classes)
        self._free = FreeNames()
        self._as_png: list[Page] = []
        self.is_empty = True

    def add(self, page: Page, name: PurePosixPath, result: Instances) -> None:
        """Add an image, by its name below its source, with its objects; those without a pixel are left out."""
        index = self._builder.add_image(self._put(page, name, result), result.size)
        self.is_empty = False
        for rle, label, score in zip(result.rle, result.names, result.scores.tolist(), strict=True):
            exact = rings_from_counts(counts_from_string(rle["counts"]), *result.size)
            if len(exact.points):
                outline, flags = correctable(exact)
                attributes = {"score": round(score, 6)}
                self._builder.add_object(index, label, outline, flags=flags, attributes=attributes)

    def dataset(self, category_ids: tuple[int, ...]) -> Dataset:
        """All of it; the categories have the ids of the data that was learnt."""
        data = self._builder.dataset()
        ids = category_ids if len(category_ids) == len(data.category_ids) else data.category_ids
        return replace(data, category_ids=ids)

    def remarks(self) -> list[str]:
        """What was written as another file."""
        if not self._as_png:
            return []
        number = f"{len(self._as_png)} image{'s are' if len(self._as_png) > 1 else ' is'}"
        return [f"{number} written as PNG, which labelling tools show: {some_of(self._as_png)}"]

    def _put(self, page: Page, name: PurePosixPath, result: Instances) -> str:
        ending = "" if page.number else _ending(page.path, result)
        suffix = name.suffix if name.suffix.lower() in (*SHOWN.values(), ".jpeg") and ending else ending or ".png"
        stem = f"{name.stem}-page-{page.number}" if page.number else name.stem
        target = self._folder / self._free.claim(name.with_name(stem + suffix))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not ending:
            assert result.image is not None, "predictions carry their image"
            self._as_png.append(page)
            save_picture(Image.fromarray(picture(result.image, result.shown_bands)), target)
        elif isinstance(page.path, Path) and tar_of(page.path) is None:
            _link(page.path, target)
        else:
            target.write_bytes(read_image(page.path))
        return target.relative_to(self._folder).as_posix()


def _ending(path: Path | Location, result: Instances) -> str:
    """The ending under which a file can be shown as it is; empty where it has to be written anew."""
    if result.image is not None and result.image.shape[:2] != result.size:
        return path.suffix  # its pixels are not at hand
    return SHOWN.get(probe(path).format, "")


def _link(source: Path, target: Path) -> None:
    """Stand for a file for a while, without a copy where the system allows links."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        target.write_bytes(source.read_bytes())
