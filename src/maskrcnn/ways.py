"""Ways to look at images in evaluation and prediction: usually one, several for test-time augmentation."""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from maskrcnn.config import Data, Evaluate
from maskrcnn.data.buckets import Bucket, smallest_bucket
from maskrcnn.data.transforms import to_pixels
from maskrcnn.models.augmented import Augmented, Seen
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.runtime.devices import copies_in_order
from maskrcnn.structures import Detections, ImageBatch
from maskrcnn.view import View, inverse, matrix


class Way(NamedTuple):
    """One way to look."""

    scale: float
    """Size, as a factor of the usual one."""
    mirrored: bool


USUAL = [Way(1.0, False)]


class Ways(NamedTuple):
    """The ways of a recipe. With the usual one alone everything is as if there were no others."""

    all: list[Way]
    settings: Data

    @classmethod
    def of(cls, evaluate: Evaluate, data: Data) -> "Ways":
        """Every size, mirrored too where the settings say so."""
        mirrored = (False, True) if evaluate.flip else (False,)
        return cls([Way(*way) for way in product(evaluate.scales, mirrored)], data)

    @property
    def are_usual(self) -> bool:
        return self.all == USUAL

    def network(self, model: Any) -> Callable[..., Detections]:
        """What turns what `prepare` gives into detections; `model` is a MaskRCNN unless the ways are usual."""
        if self.are_usual:
            return model
        if not isinstance(model, MaskRCNN):
            raise TypeError(f"expected a MaskRCNN for several ways to look, received {type(model).__name__}")
        return Augmented(model).eval()

    def prepare(
        self,
        images: Tensor,
        raw_sizes: Int[Tensor, "B 2"],
        originals: Int[Tensor, "B 2"],
        view: View,
        bucket: Bucket,
        device: torch.device,
    ) -> ImageBatch | tuple[Seen, ...]:
        """Bring decoded images to the device, as they are seen in each way.

        raw_sizes   (height, width) of each as decoded
        originals   (height, width) of the frame that the view's windows live in
        bucket      padded size of the usual way, from which the others' follow
        """
        beside = copies_in_order(device)
        sizes = raw_sizes.to(device, non_blocking=beside)
        images = images.to(device, non_blocking=beside)
        seen = []
        for way in self.all:
            scaled = _scaled(view, way)
            in_file = scaled.rescaled(originals, raw_sizes).to(device, non_blocking=beside)
            pixels = to_pixels(images, sizes, in_file, _larger(bucket, way.scale), self.settings)
            batch = ImageBatch(pixels, in_file.sizes.float())
            if self.are_usual:
                return batch
            to_view, to_original = (to(scaled).to(device, non_blocking=beside) for to in (matrix, inverse))
            seen.append(Seen(batch, to_view, to_original, in_file.mirrored))
        return tuple(seen)

    def frame(self, view: View, originals: Int[Tensor, "B 2"]) -> View:
        """The view in whose frame detections lie: that of several ways is the original itself."""
        return view if self.are_usual else View.whole(originals, originals)


def _scaled(view: View, way: Way) -> View:
    """The same windows, larger or smaller, and mirrored where the way says so."""
    if way in USUAL:
        return view
    sizes = (view.sizes * way.scale + 0.5).long().clamp(min=1)
    return view._replace(sizes=sizes, mirrored=view.mirrored ^ way.mirrored)


def _larger(bucket: Bucket, scale: float) -> Bucket:
    """The padded size that holds all that its bucket holds, at another scale: one for each bucket and scale."""
    return bucket if scale == 1 else smallest_bucket(np.ceil(np.array([bucket]) * scale).astype(np.int64))
