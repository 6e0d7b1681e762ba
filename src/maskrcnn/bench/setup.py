"""What is measured: a network that behaves like a trained one, on images of a data set."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from maskrcnn import config
from maskrcnn.bench.batches import full_batches
from maskrcnn.bench.ceilings import Ceilings, measure
from maskrcnn.bench.machine import Facts, facts
from maskrcnn.bench.peer import lacking
from maskrcnn.bench.results import cell
from maskrcnn.config import Recipe
from maskrcnn.data.buckets import Bucket, Step
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.loader import make_batch, pin
from maskrcnn.data.transforms import RawBatch
from maskrcnn.models.mask_rcnn import MaskRCNN, build
from maskrcnn.runtime.devices import choose_device
from maskrcnn.runtime.execution import Execution, choose_algorithms, choose_execution
from maskrcnn.runtime.memory import keep_freed_memory
from maskrcnn.runtime.precision import Precision, choose_precision


class Options(NamedTuple):
    """How to measure."""

    batch: int
    repeats: int
    """Measurements behind each median."""
    bucket: Bucket | None = None
    """Padded size; None takes the most frequent one."""
    with_peer: bool = True
    """Whether torchvision takes part, where it is installed."""


@dataclass(frozen=True)
class Setup:
    """A recipe on this machine."""

    recipe: Recipe
    options: Options
    device: torch.device
    execution: Execution
    precision: Precision
    data: Dataset
    steps: list[Step]
    """Full batches of one bucket."""
    model: MaskRCNN

    @property
    def bucket(self) -> Bucket:
        return self.steps[0].bucket

    @property
    def num_classes(self) -> int:
        return len(self.data.category_ids)

    @cached_property
    def lacks_peer(self) -> str:
        """Why torchvision does not take part; empty where it does."""
        if not self.options.with_peer:
            return "torchvision was not asked for"
        return lacking(self.model, self.recipe.model, self.recipe.data, self.num_classes)

    @cached_property
    def raw(self) -> RawBatch:
        """The first batch, decoded."""
        raw = make_batch(self.data, self.steps[0], self.recipe.data)
        return pin(raw) if self.device.type == "cuda" else raw

    @cached_property
    def ceilings(self) -> Ceilings:
        return measure(self.device, self.precision.dtype)

    @cached_property
    def facts(self) -> Facts:
        """All that decides the numbers."""
        return facts(self.device) | {
            "recipe": self.recipe.name,
            "network": f"{self.recipe.model.backbone.kind}, {self.recipe.model.backbone.norm.replace('_', ' ')}",
            "batch": str(self.options.batch),
            "bucket": f"{self.bucket[0]} x {self.bucket[1]}",
            "precision": self._precision,
            "products": f"{cell(self.ceilings.flops / 1e12)} TFLOP/s",
            "copies": f"{cell(self.ceilings.bandwidth / 1e9)} GB/s",
            "repeats": str(self.options.repeats),
        }

    def key(self, verb: str) -> str:
        """What two runs of the same benchmark share."""
        bucket = "x".join(map(str, self.bucket))
        return f"{verb}, {self.recipe.name}, {bucket}, batch {self.options.batch}, {self._precision}"

    @property
    def _precision(self) -> str:
        return str(self.precision.dtype).removeprefix("torch.")


def set_up(recipe: Recipe, settings: config.Train | config.Evaluate, data: Dataset, options: Options) -> Setup:
    """Take the device, choose images, and build the network.

    What training and prediction ask of the process holds here too, for all sides.
    settings   the section of the recipe whose precision and execution count
    """
    device = choose_device(recipe.device, 0)
    section = "train" if isinstance(settings, config.Train) else "evaluate"
    choose_algorithms(device)
    keep_freed_memory(device)
    model = trained_like(recipe.model, len(data.category_ids), len(recipe.data.mean)).to(device)
    model.backbone.recompute = recipe.train.recompute
    return Setup(
        recipe=recipe,
        options=options,
        device=device,
        execution=choose_execution(settings.execution, device, f"{section}.execution"),
        precision=choose_precision(device, settings.mixed_precision),
        data=data,
        steps=full_batches(data, recipe.data, options.bucket, options.batch),
        model=model,
    )


@torch.no_grad()
def trained_like(settings: config.Model, num_classes: int, num_bands: int = 3) -> MaskRCNN:
    """Random weights that behave like trained ones in what costs time: finite activations, many detections."""
    torch.manual_seed(0)
    model = build(settings, num_classes, num_bands)
    for name, buffer in model.named_buffers():
        if name.endswith(("conv3.norm.weight", "conv2.norm.weight")):
            buffer.fill_(0.3)
    model.box_head.classes.weight.normal_(std=0.3)
    model.box_head.classes.bias[0] = -2.0
    return model
