"""A data set made object by object: what formats other than COCO are read with."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from maskrcnn.data.dataset import Dataset, Flag, lie_inside
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.masks import Rings, rings_from_bitmap

Box = tuple[float, float, float, float]
NO_FLAG = Flag(0)
TWICE = Kind("class-listed-twice", "classes", Severity.NOTE, "are listed more than once, and are one")


class Builder:
    """Gathers images and their objects, and gives the columns.

    source    where they come from; messages name it
    images    the folder that file names are below
    classes   names in the order of their category ids, which count from 1; others that objects name follow, sorted
    """

    def __init__(self, source: Path, images: Path, faults: Faults, classes: Sequence[str] = ()) -> None:
        self._source, self._images, self._faults = source, images, faults
        self._classes = list(dict.fromkeys(classes))
        faults.add(TWICE, [name for name, count in Counter(classes).items() if count > 1])
        self._names: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._objects: list[tuple[int, str, Box, bool, Flag, Rings, str]] = []

    def add_image(self, file_name: str, size: tuple[int, int]) -> int:
        """Add an image by its name below the folder and its (height, width); gives its index."""
        self._names.append(file_name)
        self._sizes.append(size)
        return len(self._names) - 1

    def add_object(
        self,
        image: int,
        name: str,
        outline: Rings | None,
        *,
        box: Box | None = None,
        flags: Flag = NO_FLAG,
        crowd: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an object of an image.

        outline   its polygons; None where it has but a box
        box       x, y, width, height; without one that of the outline
        """
        if outline is None or not len(outline.points):
            assert box is not None, "an object has an outline or a box"
            outline, flags = _rectangle(box), flags | Flag.NO_OUTLINE
        box = box or _box_of(outline)
        self._objects.append(
            (image, name, box, crowd, flags, outline, json.dumps(attributes, ensure_ascii=False) if attributes else "")
        )

    def add_mask(
        self,
        image: int,
        name: str,
        mask: Shaped[np.ndarray, "h w"],
        *,
        origin: tuple[int, int] = (0, 0),
        crowd: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an object by the pixels that it covers.

        origin   (row, column) of the mask's first pixel in the image, where it is a window of it
        """
        rings = rings_from_bitmap(mask)
        shifted = Rings(rings.points + np.array([origin[1], origin[0]], np.float32), rings.first)
        self.add_object(image, name, shifted, flags=Flag.RUN_LENGTHS, crowd=crowd, attributes=attributes)

    def dataset(self) -> Dataset:
        """The columns. Raises ValueError where nothing was added, by what `Faults.refuse` says if that tells why."""
        if not self._names:
            self._faults.refuse(self._source)
            raise ValueError(f"{self._source}: there is no image with annotations; nothing can be read")
        objects = [self._objects[index] for index in self._order()]
        classes = [*self._classes, *sorted({one[1] for one in objects} - set(self._classes))]
        numbers = {name: number for number, name in enumerate(classes, 1)}
        boxes = np.array([one[2] for one in objects], np.float64).reshape(-1, 4)
        corners = (boxes + np.pad(boxes[:, :2], ((0, 0), (2, 0)))).astype(np.float32)
        sizes = np.array(self._sizes, np.int64).reshape(-1, 2)
        owners = np.array([one[0] for one in objects], np.int64)
        flags = np.array([one[4] for one in objects], np.uint8)
        flags |= np.where(lie_inside(corners, sizes[owners]), 0, Flag.OUTSIDE).astype(np.uint8)
        rings, first_ring = _joined([one[5] for one in objects])
        attributes = [one[6] for one in objects]
        return Dataset(
            annotations=self._source,
            images=self._images,
            image_ids=np.arange(1, len(sizes) + 1),
            file_names=self._names,
            sizes=sizes,
            first_object=np.searchsorted(owners, np.arange(len(sizes) + 1)).astype(np.int64),
            annotation_ids=np.arange(1, len(objects) + 1),
            labels=np.array([numbers[one[1]] for one in objects], np.int64),
            boxes=corners,
            areas=np.full(len(objects), math.nan),
            crowd=np.array([one[3] for one in objects], bool),
            flags=flags,
            rings=rings,
            first_ring=first_ring,
            category_ids=tuple(range(1, len(classes) + 1)),
            category_names=tuple(classes),
            stated_boxes=boxes,
            attributes=attributes if any(attributes) else None,
            remarks=self._faults.notes(),
        )

    def _order(self) -> list[int]:
        """Objects sorted by image, else as they were added."""
        return sorted(range(len(self._objects)), key=lambda index: self._objects[index][0])


def _rectangle(box: Box) -> Rings:
    x, y, width, height = box
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Rings(np.array(corners, np.float32), np.array([0, 4], np.int32))


def _box_of(outline: Rings) -> Box:
    (x1, y1), (x2, y2) = outline.points.min(axis=0).tolist(), outline.points.max(axis=0).tolist()
    return x1, y1, x2 - x1, y2 - y1


def _joined(outlines: Sequence[Rings]) -> tuple[Rings, Int64[np.ndarray, " _"]]:
    """All outlines as one, and the first ring of each."""
    points = [one.points for one in outlines] or [np.zeros((0, 2), np.float32)]
    lengths = np.concatenate([[0], *(np.diff(one.first) for one in outlines)]).astype(np.int64)
    first_ring = np.cumsum([0, *(len(one.first) - 1 for one in outlines)], dtype=np.int64)
    return Rings(np.concatenate(points), np.cumsum(lengths).astype(np.int32)), first_ring
