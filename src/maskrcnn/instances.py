"""One image's results for a person: padding is gone, boxes are in pixels of the original image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt32
from PIL import Image
from torch import Tensor

from maskrcnn.boxes import clip
from maskrcnn.config import MaskHead
from maskrcnn.draw import Crop, draw_instances
from maskrcnn.masks import Outline, bitmap_from_counts, counts_from_string, outlines_from_runs
from maskrcnn.masks.spans import bitmap_from_spans, bounds_of_spans, spans_from_counts
from maskrcnn.ops.paste import inclusive_boxes, paste, paste_outlines, paste_rle
from maskrcnn.ops.paste.logits import between_logits
from maskrcnn.overview import factor_for, reduced, reduced_size
from maskrcnn.picture import picture, save_picture
from maskrcnn.sentences import some_of
from maskrcnn.structures import Detections
from maskrcnn.view import View, inverse, move_boxes

HALF = 0.5
"""Share of the pixels that become one which a mask must cover to be drawn there."""
USUAL = MaskHead()
"""Settings by which masks are pasted where nobody says otherwise."""
Index = int | np.integer | slice | Int[np.ndarray, " k"] | Bool[np.ndarray, " n"] | list[int]


@dataclass(frozen=True, eq=False, repr=False)
class Instances:
    """The objects found in one image, best first. Masks are pasted when they are asked for.

    >>> Instances.empty((480, 640))
    no instances in 480 x 640
    """

    boxes: Float[np.ndarray, "n 4"]
    """xyxy, continuous pixels of the original image."""
    labels: Int[np.ndarray, " n"]
    """1..K."""
    names: list[str]
    """Name of each object's class."""
    scores: Float[np.ndarray, " n"]
    probabilities: Float[Tensor, "n M M"]
    """Mask probabilities on a grid of M x M cells inside each box."""
    size: tuple[int, int]
    """(height, width) of the original image."""
    category_ids: tuple[int, ...] = ()
    """The data set's id of each label, in label order; empty where ids are the labels."""
    image: Shaped[np.ndarray, "h w C"] | None = None
    """The original image, RGB unless the network sees other bands: bytes, or float32 levels of 0..255; reduced by a
    whole factor where it was read in tiles and a side exceeds 8192 pixels."""
    shown_bands: tuple[int, ...] = ()
    """Numbers of the bands that drawings show, see `data.shown_bands`."""
    inclusive: bool = False
    """Masks are pasted as by torchvision, whose weights these are; see `model.mask_head.paste`."""
    logits: bool = False
    """Masks are interpolated between logits rather than probabilities; see `model.mask_head.interpolate`."""
    runs: list[str] | None = None
    """Masks as COCO's compressed run lengths, where they were joined from tiles and `probabilities` are empty; None:
    pasted from these."""

    @classmethod
    def empty(cls, size: tuple[int, int]) -> "Instances":
        """Nothing found."""
        none = np.zeros(0, np.float32)
        return cls(none.reshape(0, 4), none.astype(np.int64), [], none, torch.zeros(0, 1, 1), size)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator["Instances"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Index) -> "Instances":
        """Some of them, as `Instances` again: a number, a slice, indices or a boolean array."""
        chosen = np.array(np.arange(len(self))[index], ndmin=1)  # a copy: torch takes no negative strides
        return replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            names=[self.names[i] for i in chosen],
            scores=self.scores[chosen],
            probabilities=self.probabilities[torch.from_numpy(chosen)],
            runs=None if self.runs is None else [self.runs[i] for i in chosen],
        )

    def filter(self, score: float) -> "Instances":
        """Keep the objects whose score is at least `score`."""
        return self[self.scores >= score]

    @cached_property
    def masks(self) -> Bool[np.ndarray, "n h w"]:
        """Bitmaps of the size of the image: n x h x w bytes. `rle` and `polygons` need far less."""
        height, width = self.size
        if self.runs is not None:
            return np.array([*self._bitmaps()], np.bool_).reshape(-1, height, width)
        grids, boxes, threshold = self._grids()
        return paste(grids, boxes, height=height, width=width, threshold=threshold).numpy()

    @cached_property
    def rle(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths: {"size": [h, w], "counts": str}."""
        height, width = self.size
        if self.runs is not None:
            return [{"size": [height, width], "counts": runs} for runs in self.runs]
        grids, boxes, threshold = self._grids()
        return paste_rle(grids, boxes, height=height, width=width, threshold=threshold)

    @cached_property
    def polygons(self) -> list[list[Outline]]:
        """The rings (x, y) along the edges of the pixels: `for body, *holes in polygons[0]` goes over the first mask's.

        A mask has an outline for each of its pieces. Bodies turn clockwise on the screen, holes the other way.
        """
        height, width = self.size
        if self.runs is not None:
            counts = [counts_from_string(runs) for runs in self.runs]
            stops = np.cumsum([len(one) for one in counts], dtype=np.int64)
            return outlines_from_runs(np.concatenate([np.zeros(0, np.uint32), *counts]), stops, height)
        grids, boxes, threshold = self._grids()
        return paste_outlines(grids, boxes, height=height, width=width, threshold=threshold)

    def to_coco(self, image_id: int | str = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO result entries; boxes become [x, y, width, height].

        category_ids   in label order; by default those that came with the weights, otherwise the labels are the ids
        """
        ids = category_ids or self.category_ids or range(1, int(self.labels.max(initial=0)) + 1)
        if self.labels.max(initial=0) > len(ids):
            highest = self.labels.max()
            raise ValueError(f"expected a category id for each label, received {len(ids)} ids and the label {highest}")
        corners = self.boxes.astype(np.float64)
        xywh = np.round(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), 3)
        return [
            {
                "image_id": image_id,
                "category_id": int(ids[label - 1]),
                "bbox": box.tolist(),
                "score": round(float(score), 6),
                "segmentation": rle,
            }
            for label, box, score, rle in zip(self.labels, xywh, self.scores, self.rle, strict=True)
        ]

    def to_supervision(self) -> Any:
        """A `supervision.Detections`, whose class ids count from 0."""
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision() needs the package `supervision`: pip install supervision") from None
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels - 1,
            data={"class_name": np.asarray(self.names, dtype=str)},
        )

    def draw(self, image: Shaped[np.ndarray, "h w C"] | None = None) -> Image.Image:
        """The image with its objects, as `picture` shows it; `image` where the results do not carry theirs.

        One whose longer side exceeds 8192 pixels is drawn smaller by a whole factor: a drawing takes 15 bytes a pixel.
        """
        image = self.image if image is None else image
        if image is None:
            raise ValueError("these results carry no image to draw on; pass draw(image) an RGB array")
        factor = factor_for(self.size)
        if image.ndim != 3 or image.shape[:2] not in (self.size, reduced_size(self.size, factor)):
            raise ValueError(
                f"expected an RGB image of shape {(*self.size, 3)}, received {image.shape}; pass draw(image) one"
            )
        shown = picture(reduced(image, factor if image.shape[:2] == self.size else 1), self.shown_bands)
        labels, boxes = self.labels.tolist(), self.boxes / factor
        return draw_instances(shown, boxes, self._crops(factor), self.names, self.scores, labels=labels)

    def save(self, path: str | Path) -> Path:
        """Draw and write the image; the ending of `path` decides the format."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(self.draw(), path, quality=92)
        return path

    def _grids(self) -> tuple[Float[Tensor, "n _ _"], Float[Tensor, "n 4"], float]:
        """(the masks' grids, the boxes that they fill, and the threshold) for `paste`."""
        boxes = torch.from_numpy(self.boxes)
        boxes = inclusive_boxes(boxes, cells=self.probabilities.shape[-1]) if self.inclusive else boxes
        return between_logits(self.probabilities, boxes) if self.logits else (self.probabilities, boxes, 0.5)

    def _bitmaps(self) -> Iterator[Bool[np.ndarray, "h w"]]:
        """The masks one at a time: of a hundred objects in a large image only one takes room."""
        return (bitmap_from_counts(counts_from_string(rle["counts"]), *self.size) for rle in self.rle)

    def _crops(self, factor: int) -> Iterator[Crop]:
        """What is drawn of each mask, in an image that is reduced by a whole factor."""
        return (crop_of(counts_from_string(rle["counts"]), self.size[0], factor) for rle in self.rle)

    def __repr__(self) -> str:
        height, width = self.size
        found = some_of((f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)), 8)
        noun = "instance" if len(self) == 1 else "instances"
        listed = f": {found}" if len(self) else ""
        return f"{len(self) or 'no'} {noun} in {height} x {width}{listed}"


def crop_of(counts: UInt32[np.ndarray, " N"], height: int, factor: int) -> Crop:
    """A mask, given by its run lengths, as it is drawn in an image that is reduced by a whole factor.

    height   of the image that the runs count
    """
    spans = spans_from_counts(counts, height)
    left, top, right, bottom = bounds_of_spans(spans)
    left, top = left // factor * factor, top // factor * factor
    bitmap = bitmap_from_spans(spans, (left, top, right, bottom))
    if factor > 1 and bitmap.size:
        bitmap = reduced(bitmap[..., None].astype(np.float32), factor)[..., 0] >= HALF
    return Crop(left // factor, top // factor, bitmap)


def from_detections(
    detections: Detections,
    view: View,
    original_sizes: Int[Tensor, "B 2"],
    names: Sequence[str],
    category_ids: Sequence[int] = (),
    head: MaskHead = USUAL,
) -> list[Instances]:
    """One `Instances` for each image of a batch: padding removed, brought back to the original image and cut to it.

    view             what the network saw of each image
    original_sizes   (height, width) of the images as read
    names            of the classes, in label order
    head             says how masks are pasted
    """
    boxes, labels, scores, valid, masks = (part.detach().to("cpu") for part in detections)
    originals, view = original_sizes.to("cpu"), view.to(torch.device("cpu"))
    turns = [0] * len(originals) if view.turns is None else view.turns.tolist()
    corners = clip(move_boxes(inverse(view, torch.float64), boxes.double()), originals.double())
    results = []
    for image, (height, width) in enumerate(originals.tolist()):
        keep = valid[image]
        chosen = labels[image][keep].numpy()
        results.append(
            Instances(
                boxes=corners[image][keep].float().numpy(),
                labels=chosen,
                names=[names[label - 1] for label in chosen],
                scores=scores[image][keep].float().numpy(),
                probabilities=_turned_back(masks[image][keep].float(), bool(view.mirrored[image]), turns[image]),
                size=(height, width),
                category_ids=tuple(category_ids),
                inclusive=head.paste == "inclusive",
                logits=head.interpolate == "logits",
            )
        )
    return results


def _turned_back(masks: Float[Tensor, "n M M"], mirrored: bool, turns: int) -> Float[Tensor, "n M M"]:
    """Grids over boxes of a view as grids over the same boxes of its image."""
    return (masks.flip(2) if mirrored else masks).rot90(-turns, (1, 2))
