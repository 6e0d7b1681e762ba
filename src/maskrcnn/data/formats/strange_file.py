"""What a file of labels is that no format reads, put so that a person knows what to do."""

from pathlib import Path

from maskrcnn.data.formats import archive
from maskrcnn.data.formats.archive import is_archive
from maskrcnn.data.formats.coco_folders import content_of
from maskrcnn.data.formats.json_sample import JsonSample, sample
from maskrcnn.data.formats.yolo_layout import why_no_layout

HEAD = 4096
"""Bytes of an XML or CSV file by which it is told."""
PACKED = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")
LINES = "it holds lines of JSON; export COCO"
TABLES = "it is a table for programs; export COCO"
OTHERS = {
    **dict.fromkeys((".ndjson", ".jsonl"), LINES),
    **dict.fromkeys((".tfrecord", ".tfrecords", ".record", ".parquet", ".arrow", ".mat", ".h5", ".hdf5"), TABLES),
    **dict.fromkeys((".npy", ".npz", ".pkl", ".pickle"), "it holds arrays of Python; save the masks as PNG or TIFF"),
}
TEXTS = (".json", ".xml", ".csv", ".yaml", ".yml")
ENDINGS = (*TEXTS, *OTHERS, *PACKED, *archive.ENDINGS)
"""Endings, in lower case, of files that hold labels, or might."""
JSON_OF = {
    ("_via_img_metadata", "region_attributes"): "it is a file of VGG Image Annotator",
    ("imagePath", "shapes"): "it is a Labelme file",
    ("vid_list", "temporal_segment"): "it is a video of VGG Image Annotator",
    ("from_name", "to_name"): "it is Label Studio's own JSON; export COCO",
    ("classTitle", "classId"): "it is Supervisely's own JSON; export COCO",
    ("media_type", "label_categories"): "it is Datumaro's own JSON; export COCO",
}
"""Keys, one of which a tool's files have, and what such a file is."""


def what_it_is(path: Path) -> str:
    """Tell what a file with one of `ENDINGS` is."""
    ending = path.suffix.lower()
    if ending in OTHERS:
        return OTHERS[ending]
    if is_archive(path):
        return "it is an archive; unpack it, or give it in the place of the folder"
    if ending in PACKED:
        return "it is packed; unpack it"
    if ending in (".yaml", ".yml"):
        return why_no_layout(path)
    if ending == ".json":
        seen = sample(path)
        return "it is no JSON" if seen is None else _json(seen)
    head = _head(path)
    if ending == ".xml" and b"<annotations" in head:
        return "it names no images, as exports of videos do; export `CVAT for images`"
    if ending == ".xml" and b"<annotation" in head:
        return "it holds boxes of Pascal VOC"
    if b"region_shape_attributes" in head:
        return "it is a table of VGG Image Annotator whose regions another file has"
    return f"it is {ending[1:].upper()} of something else"


def _json(seen: JsonSample) -> str:
    content = content_of(seen)
    if content is not None:
        return content.value or "it is a COCO file"
    told = (what for keys, what in JSON_OF.items() if seen.says(*keys))
    return next(told, "it is JSON of something else")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD).replace(b"\0", b"")
    except OSError:
        return b""
