"""Images as training sees them: decoded, augmented, resized, with the targets that are learnt from them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool

from maskrcnn.config import Data, Train
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.augment.geometry import Objects
from maskrcnn.data.buckets import Step, buckets_in_training, plan_epoch, whole_images
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.loader import make_batch
from maskrcnn.data.oddities import Oddities
from maskrcnn.ops.visible import draw_targets
from maskrcnn.picture import picture
from maskrcnn.report.annotated import Pixels, Shown
from maskrcnn.structures import MicroBatch, Targets

PAIR = 2
"""Images of a batch: those that paste objects onto each other."""


class Draws:
    """What epochs of training see of a data set's images: draw n of an image is that of epoch n with the usual seed."""

    def __init__(self, data: Dataset, settings: Data, count: int) -> None:
        self.data, self.settings = data, settings
        samples, objects = whole_images(data.sizes), Objects.of(data)
        buckets = buckets_in_training(samples, settings)
        plans = (
            plan_epoch(samples, settings, buckets, batch=PAIR, seed=Train().seed, epoch=epoch, objects=objects)
            for epoch in range(count)
        )
        self._steps: list[dict[int, Step]] = [{int(i): step for step in plan for i in step.indices} for plan in plans]
        device = torch.device("cpu")
        self._make = micro_batch_maker(AnnotationStore(data, device), device, settings, one_shape=False)

    def see(self, image: int, draw: int, oddities: Oddities) -> Shown:
        """An image, by its index, in a draw. Raises OSError or ValueError where it or its partner cannot be read."""
        step = self._steps[draw][image]
        batch = self._make(make_batch(self.data, step, self.settings, oddities=oddities))
        return _shown(batch, step.indices.tolist().index(image), self.settings)


def _shown(batch: MicroBatch, slot: int, settings: Data) -> Shown:
    targets = batch.targets
    height, width = map(int, batch.images.sizes[slot].tolist())
    chosen = targets.valid[slot].nonzero()[:, 0]
    return Shown(
        pixels=_pixels(batch, slot, settings)[:height, :width],
        size=(height, width),
        boxes=targets.boxes[slot, chosen].numpy(),
        labels=targets.labels[slot, chosen].numpy(),
        mask=_painter(targets, slot, chosen.tolist()),
    )


def _pixels(batch: MicroBatch, slot: int, settings: Data) -> Pixels:
    """Levels again, of the bands that drawings show, see `data.shown_bands`."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    levels = (batch.images.pixels[slot] * std + mean).round().clamp(0, 255).byte()
    return np.ascontiguousarray(picture(levels.permute(1, 2, 0).numpy(), settings.shown_bands))


def _painter(targets: Targets, slot: int, objects: list[int]) -> Callable[[int, float, int], Bool[np.ndarray, "s s"]]:
    image = torch.tensor([slot])

    def mask(item: int, side: float, cells: int) -> Bool[np.ndarray, "s s"]:
        whole, chosen = torch.tensor([[0.0, 0.0, side, side]]), torch.tensor([objects[item]])
        return draw_targets(targets, whole, image, chosen, cells)[0].numpy() > 0

    return mask
