"""Which file of object numbers belongs to which image, in the ways people lay them out."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.formats.source import PARTS, Folder
from maskrcnn.data.sources import SUFFIXES

WORDS = re.compile(
    r"(?<![a-z])(masks?|labels?|labelled|instances?|annotations?|gt|ground_?truth|seg|segmentations?|segmented|targets?)"
    r"(?![a-z])"
)
"""Words of folders of masks."""
SUFFIX = re.compile(r"[-_. ](cp_masks?|masks?|labels?|instances?|instance_?ids?|seg|gt)$")
"""What tools add to an image's name."""
OTHERS = re.compile(r"segmentation(object|class)|panoptic|semantic|stuff|gtfine|gtcoarse")
"""Folders of masks that other formats read, or nobody."""
LOSSY = (".jpg", ".jpeg")


class Layout(NamedTuple):
    """A folder of masks and that of their images, which may be the same."""

    masks: Path
    images: Path


class Pair(NamedTuple):
    """A mask and its image."""

    mask: Path
    image: Path
    name: str
    """Class, where a folder of the masks' folder tells it."""


Inner = Mapping[Path, list[Path]]
"""Folders directly inside each folder."""


def layouts(folder: Folder) -> dict[Layout, list[Pair]]:
    """Folders of masks below a folder, with what belongs together in them."""
    found: dict[Layout, list[Pair]] = {}
    inner = inner_folders(folder)
    for masks, candidates in _candidates(folder, inner).items():
        tried = {Layout(masks, images): pairs(folder, Layout(masks, images), inner)[0] for images in candidates}
        best = max(tried, key=lambda one: (len(tried[one]), -len(one.images.parts), str(one.images)), default=None)
        if best is not None and tried[best]:
            found[best] = tried[best]
    known = {layout.masks for layout in found}
    return {layout: found[layout] for layout in found if known.isdisjoint(layout.masks.parents)}


def inner_folders(folder: Folder) -> Inner:
    """Folders directly inside each folder below a folder, and inside itself."""
    found: dict[Path, list[Path]] = {}
    for place in folder.files:
        found.setdefault(place.parent, []).append(place)
    return found


def pairs(folder: Folder, layout: Layout, inner: Inner) -> tuple[list[Pair], list[Path], list[Path]]:
    """(what belongs together, masks without an image, images without a mask), images by name."""
    masks, images = _files(folder, layout, inner)
    found, orphans = [], []
    for path in masks:
        key, name = _key_of(path.relative_to(layout.masks), images)
        if key is None:
            orphans.append(path)
        else:
            found.append(Pair(path, images[key], name))
    taken = {pair.image for pair in found}
    return (
        sorted(found, key=lambda pair: pair.image),
        orphans,
        [image for image in images.values() if image not in taken],
    )


def _candidates(folder: Folder, inner: Inner) -> dict[Path, list[Path]]:
    """Folders of masks, each with the folders in which its images may lie."""
    found: dict[Path, list[Path]] = {}
    for place, names in folder.files.items():
        parts = place.relative_to(folder.root).parts
        has_images = any(name.lower().endswith(SUFFIXES) for name in names)
        if not has_images or any(OTHERS.search(part.lower()) for part in parts):
            continue
        marked = [index for index, part in enumerate(parts) if WORDS.search(part.lower())]
        if not marked:
            found[place] = [place]
        for index in marked:
            above = folder.root.joinpath(*parts[:index])
            tail = [part for part in parts[index + 1 : index + 2] if part.lower() in PARTS]
            siblings = [one for one in inner.get(above, ()) if not WORDS.search(one.name.lower())]
            found[above.joinpath(parts[index], *tail)] = [one.joinpath(*tail) for one in (above, *siblings)]
    return found


def _files(folder: Folder, layout: Layout, inner: Inner) -> tuple[list[Path], dict[str, Path]]:
    """(masks, images by their name below their folder, in lower case and without ending)."""
    if layout.masks == layout.images:
        return _files_of_one(folder, layout.masks)
    masks = list(_below(folder, layout.masks, inner))
    images: dict[str, Path] = {}
    for path in _below(folder, layout.images, inner, WORDS if layout.masks.is_relative_to(layout.images) else None):
        if not path.is_relative_to(layout.masks):
            images.setdefault(_key(path.relative_to(layout.images)), path)
    return masks, images


def _files_of_one(folder: Folder, place: Path) -> tuple[list[Path], dict[str, Path]]:
    """The same where masks lie beside their images: they have a suffix, or are no JPEG while the image is one."""
    files = [place / name for name in folder.files.get(place, ()) if name.lower().endswith(SUFFIXES)]
    stems = {path.stem.lower() for path in files}
    photos = {path.stem.lower() for path in files if path.suffix.lower() in LOSSY}
    masks, images = [], {}
    for path in files:
        stem = path.stem.lower()
        stripped = SUFFIX.sub("", stem)
        if (stripped != stem and stripped in stems) or (stem in photos and path.suffix.lower() not in LOSSY):
            masks.append(path)
        else:
            images[stem] = path
    return masks, images


def _key_of(mask: Path, images: Mapping[str, Path]) -> tuple[str | None, str]:
    """(key of the image that a mask belongs to, class that its first folder names)."""
    for inner, name in ((mask, ""), *([(Path(*mask.parts[1:]), mask.parts[0])] if len(mask.parts) > 1 else [])):
        key = _key(inner)
        for candidate in (key, SUFFIX.sub("", key)):
            if candidate in images:
                return candidate, name
    return None, ""


def _key(path: Path) -> str:
    return path.with_suffix("").as_posix().lower()


def _below(folder: Folder, place: Path, inner: Inner, without: re.Pattern[str] | None = None) -> Iterator[Path]:
    """Images below a folder; what lies in inner folders of certain names is passed over."""
    yield from (place / name for name in folder.files.get(place, ()) if name.lower().endswith(SUFFIXES))
    for one in inner.get(place, ()):
        if without is None or not without.search(one.name.lower()):
            yield from _below(folder, one, inner, without)
