"""Data sets whose masks have holes, parts, touch borders and corners, for formats of pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.source import Folder
from maskrcnn.masks import bitmap_from_rings, rings_from_bitmap

CLASSES = ("cat", "dog")


def put_image(path: Path, size=(20, 30), seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def put_mask(path: Path, ids, dtype=np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(ids).astype(dtype)).save(path)


def draw_ids(size=(20, 30)) -> np.ndarray:
    """Three objects: one with a hole that holds another, one of two parts at opposite corners of the image."""
    ids = np.zeros(size, np.uint8)
    ids[4:12, 5:15] = 1
    ids[6:9, 8:12] = 0
    ids[7, 9:11] = 2
    ids[0:2, 25:30] = ids[18:20, 0:3] = 3
    return ids


def add_mask(builder: Builder, image: int, name: str, mask: np.ndarray, *, crowd: bool = False) -> None:
    """Add an object by the pixels that it covers."""
    builder.add_object(image, name, rings_from_bitmap(mask), flags=Flag.RUN_LENGTHS, crowd=crowd)


def draw_data(folder: Path, classes=CLASSES, names=("a.png", "b/c.jpg", "d.png")) -> Dataset:
    """Three images: with the objects of `draw_ids`, with one object of two parts, with none."""
    builder = Builder(folder / "labels.json", folder / "images", Faults(), classes)
    two = np.zeros((20, 30), np.uint8)
    two[3:6, 3:6] = two[10:14, 20:22] = 1
    for number, (name, ids) in enumerate(zip(names, (draw_ids(), two, np.zeros((20, 30))), strict=True)):
        put_image(folder / "images" / name, seed=number)
        image = builder.add_image(name, (20, 30))
        for id in sorted(set(np.unique(ids).tolist()) - {0}):
            add_mask(builder, image, classes[int(id) % len(classes)], ids == id)
    return builder.dataset()


def pixels_of(data: Dataset) -> dict[str, list[tuple[str, bytes]]]:
    """The class and the mask of all objects that are no crowd, by the name of their image, in any order."""
    found = {}
    for image, name in enumerate(data.file_names):
        height, width = data.sizes[image].tolist()
        objects = range(*data.objects(image).indices(len(data.labels)))
        found[name] = sorted(
            (
                data.category_names[data.labels[index] - 1],
                bitmap_from_rings(data.outline(index), (0, 0, height, width)).tobytes(),
            )
            for index in objects
            if not data.crowd[index]
        )
    return found


def read_all(module, root: Path) -> dict[str, Dataset]:
    """Every split that a format finds below a folder."""
    found = {}
    for source in module.find(Folder(root)):
        faults = Faults()
        found[source.part] = module.read(source, faults)
        faults.refuse(source.labels)
    return found
