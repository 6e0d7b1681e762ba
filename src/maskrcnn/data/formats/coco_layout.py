"""The COCO2017 layout, written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats import coco
from maskrcnn.data.formats.coco_extras import extras_of
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.place import place
from maskrcnn.data.statistics import object_areas


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write splits as `annotations/instances_<split>2017.json` and `<split>2017/`; no column is lost.

    What a COCO file says besides is kept, but for what files that were joined say.
    A data set without splits becomes `annotations/instances.json` and `images/`. Objects have areas, which COCO's own
    reader needs.
    """
    losses = Losses("COCO")
    (dest / "annotations").mkdir(parents=True, exist_ok=True)
    for part, data in splits.items():
        folder, name = (f"{part}2017", f"instances_{part}2017.json") if part else ("images", "instances.json")
        names = losses.renamed(data, place(data, dest / folder))
        placed = replace(data, file_names=names, areas=object_areas(data))
        extras = extras_of(data)
        coco.write(placed, dest / "annotations" / name, extras)
        losses.say_contradicted(data, extras)
        if data.joined:
            losses.say_extras(data)
    return losses.sentences()
