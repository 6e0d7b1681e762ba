"""COCO files in a folder, whichever tool wrote them: told by what they say, not by where they lie."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from maskrcnn.data.formats.image_folder import image_folder, plain
from maskrcnn.data.formats.json_sample import JsonSample, sample
from maskrcnn.data.formats.source import Folder, Source, part_of

MOST_OF_FOLDER = 64
"""JSON files of one folder that are looked at: a folder of 100,000 has one for each image."""
NAMES = 60
"""Number of file names by which the folder of the images is found."""
WORDS = ("instances", "coco", "annotation", "result", "label", "train", "val", "test", "data", "lvis")
"""What names of COCO files contain; these are looked at first."""
SIGNS = {
    "images": ("file_name", "coco_url"),
    "annotations": ("image_id",),
    "categories": ("supercategory", "synset", "frequency"),
}
"""The three lists of a COCO file, and keys of their entries: of a long file only parts are seen."""


class Content(Enum):
    """What a COCO file is about; the value says why it is passed over."""

    INSTANCES = ""
    LVIS = "it is an LVIS file"
    EMPTY = "it has no annotations, which the file beside it has for the same images"
    LABELS = "it says which classes images show, without boxes or masks"
    PEOPLE = "the file beside it describes the same images, with more classes"
    KEYPOINTS = "it holds keypoints, no masks"
    CAPTIONS = "it holds captions, no masks"
    PANOPTIC = "it lists segments of panoptic PNGs, no objects with masks"
    IMAGES = "it lists images without annotations"
    NAMELESS = "it lists no categories, which name the classes of its objects"
    RESULTS = "it lists a model's detections, not annotations; images and categories are missing"


SECOND = (Content.PEOPLE, Content.EMPTY)
"""What is read only where no other file describes the same images."""


@dataclass(frozen=True)
class CocoFile:
    """A COCO file below a folder, and what it is about."""

    path: Path
    content: Content
    sample: JsonSample


def find(folder: Folder) -> list[Source]:
    """Splits of COCO files, in any folder below; the images are where the files lie that `file_name` names."""
    return _chosen(folder)[0]


def passed_over(folder: Folder) -> dict[Path, str]:
    """COCO files that are no instances files or that repeat another, each with the reason."""
    return _chosen(folder)[1]


def coco_files(folder: Folder) -> list[CocoFile]:
    """All files of COCO's kinds below a folder, those of outer folders first."""
    found = ((path, sample(path)) for path in _candidates(folder))
    return [CocoFile(path, content, seen) for path, seen in found if seen is not None and (content := content_of(seen))]


def content_of(seen: JsonSample) -> Content | None:
    """What a JSON file is about; None where it is none of COCO's kinds."""
    if not seen.is_object:
        return Content.RESULTS if seen.says("image_id") and seen.says("score") else None
    has = {key: seen.lists(key) or (not seen.is_whole and seen.says(*signs)) for key, signs in SIGNS.items()}
    if not has["images"] or not (has["annotations"] or has["categories"]):
        return None
    if seen.says("segments_info"):
        return Content.PANOPTIC
    if not has["annotations"]:
        return Content.IMAGES
    if re.search(r'"annotations"\s*:\s*\[\s*\]', seen.text):
        return Content.EMPTY if has["categories"] else Content.IMAGES
    if seen.says("neg_category_ids", "not_exhaustive_category_ids"):
        return Content.LVIS
    if seen.says("num_keypoints"):
        return Content.PEOPLE if seen.says("segmentation") else Content.KEYPOINTS
    if not seen.says("segmentation", "bbox"):
        return Content.CAPTIONS if seen.says("caption") else Content.LABELS
    return Content.INSTANCES if has["categories"] else Content.NAMELESS


def source_of(folder: Folder, file: CocoFile, format: str) -> Source:
    """A COCO file as a split. Of addresses the last part is a name; in LVIS, which has no other, also the folder."""
    names, urls = _names(file.sample)
    if file.content is not Content.LVIS:
        urls = [plain(url).rpartition("/")[2] for url in urls]
    images, num_found = image_folder(folder, file.path, names or urls)
    own, inner = file.path.relative_to(folder.root), images.relative_to(folder.root)
    place = inner.as_posix() if inner.parts else "the folder itself"
    where = f"whose files lie in {place}" if num_found else f"whose files are not there; expected in {place}"
    return Source(
        format=format,
        part=part_of(own) or part_of(inner),
        labels=file.path,
        images=images,
        why=f"{own.as_posix()} lists images, annotations and categories, {where}",
    )


def _names(seen: JsonSample) -> tuple[list[str], list[str]]:
    """(some names of files, some addresses of images)."""
    if seen.says("coco_url") and not seen.says("file_name"):
        return [], seen.texts(NAMES, "coco_url")
    return seen.texts(NAMES, "file_name"), []


def _candidates(folder: Folder) -> Iterator[Path]:
    for place, names in folder.files.items():
        found = [name for name in names if name.lower().endswith(".json")]
        found.sort(key=lambda name: not any(word in name.lower() for word in WORDS))
        yield from (place / name for name in found[:MOST_OF_FOLDER])


def _chosen(folder: Folder) -> tuple[list[Source], dict[Path, str]]:
    """(splits, files that are passed over with the reason)."""
    files = coco_files(folder)
    reasons = {file.path: file.content.value for file in files if file.content not in (Content.INSTANCES, *SECOND)}
    sources = [source_of(folder, file, "coco") for file in files if file.path not in reasons]
    second = {file.path: file.content for file in files if file.content in SECOND}
    second |= {file.path: Content.PEOPLE for file in files if file.path.name.startswith("stuff_")}
    first = {(one.part, one.images) for one in sources if one.labels not in second}
    repeated = [one for one in sources if one.labels in second and (one.part, one.images) in first]
    reasons |= {one.labels: second[one.labels].value for one in repeated}
    return [one for one in sources if one not in repeated], reasons
