"""Results whose images are known by the names of their files: `maskrcnn predict`, which has no annotations, numbers
images anew."""

import warnings
from collections.abc import Sequence

from msgspec import structs

from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.evaluate.results import Result
from maskrcnn.sentences import Note, some_of


class FileNames:
    """Finds images by names of files that may have other folders in front."""

    def __init__(self, names: Sequence[str]) -> None:
        self._same_end: dict[str, list[tuple[int, list[str]]]] = {}
        for index, name in enumerate(names):
            if parts := _parts(name):
                self._same_end.setdefault(parts[-1], []).append((index, parts))

    def find(self, name: str) -> list[int]:
        """Indices of the images that a name may mean: none, one, or all between which it does not tell.

        An image whose whole name is the end of the given one comes before others; then those that share more folders.

        >>> FileNames(["a/1.jpg", "b/1.jpg", "2.jpg"]).find("my_data/b/1.jpg")
        [1]
        >>> FileNames(["a/1.jpg", "b/1.jpg", "2.jpg"]).find("1.jpg")
        [0, 1]
        """
        parts = _parts(name)
        ranks = {index: _likeness(parts, theirs) for index, theirs in self._same_end.get((parts or [""])[-1], [])}
        return [index for index, rank in ranks.items() if rank == max(ranks.values())]


def by_name(truth: Truth, entries: Sequence[Result], source: str) -> Sequence[Result]:
    """Results under the ids of the images that their `file_name` names, where the ids that they have do not fit.

    Nothing changes where each id is that of an image of such a name, and where results or images have no names.
    Raises ValueError, saying which result, where a name means no image or several.
    """
    names = {entry.file_name: position for position, entry in reversed(list(enumerate(entries))) if entry.file_name}
    file_names = truth.file_names() if names else []
    if not any(file_names):
        return entries
    finder = FileNames(file_names)
    found = {name: finder.find(name) for name in names}
    odd = next((n for n, one in enumerate(entries) if _is_odd(truth, one, found)), None)
    if odd is None:
        return entries
    why = f"result {odd} has image_id {entries[odd].image_id} and file_name {entries[odd].file_name}"
    ids = _chosen(truth, found, names, file_names, source)
    nameless = next((position for position, entry in enumerate(entries) if not entry.file_name), None)
    if nameless is not None:
        raise ValueError(f"{source}: {why}, which do not fit, and result {nameless} has no file_name; give it one")
    theirs = _told(truth, truth.number_of(entries[odd].image_id), file_names)
    warnings.warn(
        f"{source}: images were looked up by file_name, because image_id does not fit {truth.source}: {why}, and there "
        f"this id is {theirs}",
        Note,
        stacklevel=2,
    )
    return [structs.replace(entry, image_id=ids[entry.file_name or ""]) for entry in entries]


def _is_odd(truth: Truth, entry: Result, found: dict[str, list[int]]) -> bool:
    """Whether a result's id is not that of an image that its name may mean."""
    return bool(entry.file_name) and truth.number_of(entry.image_id) not in found[entry.file_name or ""]


def _chosen(
    truth: Truth, found: dict[str, list[int]], names: dict[str, int], file_names: Sequence[str], source: str
) -> dict[str, int | str]:
    """The id of the one image that each name means."""
    taken: dict[int, str] = {}
    for name, images in sorted(found.items(), key=lambda item: names[item[0]]):
        where = f"{source}: result {names[name]} is of {name} by its file_name"
        if not images:
            raise ValueError(
                f"{where}, which is none of the {len(file_names)} images of {truth.source}; "
                "leave file_name out where image_id is right, otherwise score the annotated images only"
            )
        if len(images) > 1:
            those = some_of((_told(truth, image, file_names) for image in images), 2, separator=" or ")
            raise ValueError(f"{where}, which may be {those} of {truth.source}; write its folder before the name")
        other = taken.setdefault(images[0], name)
        if other != name:
            told = _told(truth, images[0], file_names)
            raise ValueError(f"{where}, and others are of {other}, but both would be {told} of {truth.source}")
    return {name: truth.image_ids[images[0]] for name, images in found.items()}


def _told(truth: Truth, image: int, file_names: Sequence[str]) -> str:
    return f"image {truth.image_ids[image]} ({file_names[image]})" if image >= 0 else "no image"


def _parts(name: str) -> list[str]:
    """Folders and name of a path as any system writes it."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _likeness(given: Sequence[str], theirs: Sequence[str]) -> tuple[bool, int]:
    """(whether their whole name is the end of the given one, how many parts agree from the end)."""
    pairs = zip(reversed(given), reversed(theirs), strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(given), len(theirs)))
    return same == len(theirs), same
