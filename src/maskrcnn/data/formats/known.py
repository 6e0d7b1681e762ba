"""The formats that are read and written, in the order in which they are looked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import (
    cityscapes,
    coco,
    coco_folders,
    coco_layout,
    cvat,
    dsb2018,
    instances,
    labelme,
    lvis,
    shards,
    via,
    voc,
    yolo,
)
from maskrcnn.data.formats.source import Folder, Source


class Format(NamedTuple):
    """How a format is found, read and written; docs/data.md says what each keeps."""

    title: str
    find: Callable[[Folder], list[Source]]
    """The splits of this format in a folder."""
    read: Callable[[Source, Faults], Dataset]
    """A split; what cannot be used is reported and left out."""
    write: Callable[[Mapping[str, Dataset], Path], list[str]]
    """Write splits with their images to a folder; gives a sentence for each kind of thing that is lost."""


def _read_coco(source: Source, faults: Faults) -> Dataset:
    return coco.read(source.labels, source.images, faults)


FORMATS = {
    "coco": Format("COCO", coco_folders.find, _read_coco, coco_layout.write),
    "lvis": Format(lvis.TITLE, lvis.find, lvis.read, lvis.write),
    "yolo": Format(yolo.TITLE, yolo.find, yolo.read, yolo.write),
    "voc": Format(voc.TITLE, voc.find, voc.read, voc.write),
    "cityscapes": Format(cityscapes.TITLE, cityscapes.find, cityscapes.read, cityscapes.write),
    "labelme": Format(labelme.TITLE, labelme.find, labelme.read, labelme.write),
    "cvat": Format(cvat.TITLE, cvat.find, cvat.read, cvat.write),
    "via": Format(via.TITLE, via.find, via.read, via.write),
    "dsb2018": Format(dsb2018.TITLE, dsb2018.find, dsb2018.read, dsb2018.write),
    "instances": Format(instances.TITLE, instances.find, instances.read, instances.write),
    "shards": Format(shards.TITLE, shards.find, shards.read, shards.write),
}
