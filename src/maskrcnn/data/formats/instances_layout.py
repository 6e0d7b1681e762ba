"""Which file of object numbers belongs to which image, in the ways people lay them out."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.formats.source import PARTS, Folder
from maskrcnn.data.sources import is_image

WORDS = re.compile(
    r"(?<![a-z])(masks?|labels?|labelled|instances?|annotations?|gt|ground_?truth|seg|segmentations?|segmented|targets?)"
    r"(?![a-z])"
)
"""Words of folders of masks."""
SUFFIX = re.compile(r"[-_. ](cp_masks?|masks?|labels?|instances?|instance_?ids?|seg|gt)$")
"""What tools add to an image's name."""
IMAGE = re.compile(r"[-_. ](img|image)$")
"""What Cellpose's users add to that of the image itself: 000_img.png has the masks 000_masks.png."""
MADE = re.compile(r"[-_. ](flows|cp_output)$")
"""What Cellpose adds to that of pictures of what it found, which are neither images nor masks."""
OTHERS = re.compile(r"segmentation(object|class)|panoptic|semantic|stuff|gtfine|gtcoarse")
"""Folders of masks that other formats read, or nobody."""
LOSSY = (".jpg", ".jpeg")


class Layout(NamedTuple):
    """A folder of masks and that of their images, which may be the same."""

    masks: Path
    images: Path


class Pair(NamedTuple):
    """A mask and its image, as texts: there may be 100,000 of them."""

    mask: str
    image: str
    name: str
    """Class, where a folder of the masks' folder tells it."""


class _File(NamedTuple):
    """An image or a mask."""

    path: str
    key: str
    """Its name below a folder, in lower case and without ending."""
    top: str
    """The first folder on the way to it."""


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


def pairs(folder: Folder, layout: Layout, inner: Inner) -> tuple[list[Pair], list[str], list[str]]:
    """(what belongs together, masks without an image, images without a mask), images by name."""
    masks, own = _files(folder, layout, inner)
    images = {**{IMAGE.sub("", key): path for key, path in own.items()}, **own}
    found, orphans = [], []
    for file in masks:
        key, name = _key_of(file, images)
        if key is None:
            orphans.append(file.path)
        else:
            found.append(Pair(file.path, images[key], name))
    taken = {pair.image for pair in found}
    return (
        sorted(found, key=lambda pair: pair.image),
        orphans,
        [one for one in own.values() if one not in taken],
    )


def _candidates(folder: Folder, inner: Inner) -> dict[Path, list[Path]]:
    """Folders of masks, each with the folders in which its images may lie."""
    found: dict[Path, list[Path]] = {}
    for place, names in folder.files.items():
        parts = place.relative_to(folder.root).parts
        has_images = any(map(is_image, names))
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


def _files(folder: Folder, layout: Layout, inner: Inner) -> tuple[list[_File], dict[str, str]]:
    """(masks, images by their key)."""
    if layout.masks == layout.images:
        return _files_of_one(folder, layout.masks)
    is_around = layout.masks.is_relative_to(layout.images)
    images: dict[str, str] = {}
    for file in _below(folder, layout.images, inner, "", layout.masks if is_around else None):
        images.setdefault(file.key, file.path)
    return list(_below(folder, layout.masks, inner)), images


def _files_of_one(folder: Folder, place: Path) -> tuple[list[_File], dict[str, str]]:
    """The same where masks lie beside their images: they have a suffix, or are no JPEG while the image is one."""
    files = [
        _File(f"{place}/{name}", _stem(name).lower(), "") for name in folder.files.get(place, ()) if is_image(name)
    ]
    keys = {key for file in files for key in (file.key, IMAGE.sub("", file.key))}
    photos = {file.key for file in files if file.path.lower().endswith(LOSSY)}
    masks, images = [], {}
    for file in files:
        stripped = SUFFIX.sub("", file.key)
        is_other = file.key in photos and not file.path.lower().endswith(LOSSY)
        if MADE.sub("", file.key) in keys - {file.key}:
            continue
        if is_other or (stripped != file.key and stripped in keys):
            masks.append(file)
        else:
            images[file.key] = file.path
    return masks, images


def _key_of(mask: _File, images: Mapping[str, str]) -> tuple[str | None, str]:
    """(key of the image that a mask belongs to, class that its first folder names)."""
    for key, name in ((mask.key, ""), (mask.key.partition("/")[2], mask.top)):
        for candidate in (key, SUFFIX.sub("", key)):
            if candidate in images:
                return candidate, name
    return None, ""


def _below(folder: Folder, place: Path, inner: Inner, parents: str = "", masks: Path | None = None) -> Iterator[_File]:
    """Images below a folder.

    parents   the folders that lead to it from the first one, with a slash behind each
    masks     folder of masks among those that are looked into: it, and others of masks, are passed over
    """
    top, prefix = parents.partition("/")[0], parents.lower()
    for name in folder.files.get(place, ()):
        if is_image(name):
            yield _File(f"{place}/{name}", prefix + _stem(name).lower(), top)
    for one in inner.get(place, ()):
        if masks is None or not (one == masks or WORDS.search(one.name.lower())):
            yield from _below(folder, one, inner, f"{parents}{one.name}/", masks)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
