"""Images in, `Instances` out: what a person does with trained weights."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Literal, cast, get_args, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskrcnn.config import Recipe
from maskrcnn.convert.checkpoint import load_any
from maskrcnn.data.buckets import Bucket, box_bucket, smallest_bucket, whole_views
from maskrcnn.data.classes import Choice, choose
from maskrcnn.data.decode import MEBIBYTE
from maskrcnn.data.given import ImageLike, Source, in_memory, read, source_of
from maskrcnn.data.image_file import allow_pixels
from maskrcnn.data.levels import Pixels as Array
from maskrcnn.data.levels import levels_of
from maskrcnn.data.loader import collate
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.sources import find_images, is_one_file
from maskrcnn.data.tiles import cut_images
from maskrcnn.instances import Instances, from_detections
from maskrcnn.joining import Joiner
from maskrcnn.models.layers import fold
from maskrcnn.models.mask_rcnn import MaskRCNN, build
from maskrcnn.models.skip_init import SkipInit
from maskrcnn.overview import Overview, reduced
from maskrcnn.recipes.adopt import tiling, with_settings
from maskrcnn.runtime.devices import DeviceSetting, choose_device, num_devices
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.execution import Execution, to_host
from maskrcnn.runtime.ladder import Ladder, choose_rungs, laddered
from maskrcnn.runtime.memory import explain_out_of_memory, keep_freed_memory
from maskrcnn.runtime.precision import Precision, choose_precision
from maskrcnn.runtime.trial import fastest_on_cpu
from maskrcnn.runtime.trust import trust_kernels
from maskrcnn.runtime.warm import tasks_for, warm
from maskrcnn.sentences import Note, some_of, typed
from maskrcnn.storage.location import Location, Where
from maskrcnn.structures import Detections
from maskrcnn.view import View
from maskrcnn.ways import Ways
from maskrcnn.weights import fill

PrecisionSetting = Literal["auto", "fp32", "bf16"]
NUMBER_TYPES: dict[PrecisionSetting, torch.dtype | None] = {
    "auto": None,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
}

LESS_MEMORY = "what helps: fewer images at once (evaluate.batch of the weights' config.yml)"


def load(path: Where, *, device: str | torch.device | None = None, precision: PrecisionSetting = "auto") -> "Predictor":
    """A predictor from weights of any make.

    path        a weights folder, a run folder (its best weights), a .safetensors file beside its config.yml, a
                checkpoint of torchvision, Detectron2, MMDetection or the MindSpore system, the address of any of these,
                such as `s3://BUCKET/RUN`, or a published one's name, such as
                `detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x`
    device      `cpu`, `gpu`, `ascend`, `mps`, `xpu`, `accelerator` or a torch device; None takes an accelerator where
                there is one
    precision   `auto` is that of the recipe's evaluation, so that what the metrics promise is what comes; on a
                CPU the faster one: bf16 where matrix units multiply it, else where a short trial, whose result is
                kept, shows it to be
    """
    chosen = _device(device)
    if precision not in get_args(PrecisionSetting):
        raise ValueError(f"expected precision auto, fp32 or bf16, received {precision!r}")
    keep_freed_memory(chosen)
    trust_kernels(World(chosen), warnings.warn)
    tensors, recipe, origin = load_any(path)
    allow_pixels(recipe.data.max_pixels)
    number_type = _precision(precision, chosen, recipe)
    with SkipInit():
        model = build(recipe.model, len(recipe.classes), len(recipe.data.mean))
    fill(model, tensors, origin)
    model = model.to(chosen).eval()
    fold(model, number_type.dtype, widened=number_type.widened)
    if chosen.type == "cpu":
        warm(tasks_for(model, number_type.dtype, learn=False))
    rungs = choose_rungs(recipe.evaluate.execution, chosen, "evaluate.execution")
    return Predictor(model, recipe, chosen, number_type, rungs)


def _precision(setting: PrecisionSetting, device: torch.device, recipe: Recipe) -> Precision:
    if device.type == "cpu":
        return fastest_on_cpu(NUMBER_TYPES[setting])
    if setting == "bf16":
        return Precision(device.type, torch.bfloat16)
    return choose_precision(device, setting == "auto" and recipe.evaluate.mixed_precision)


@dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """A model with its weights, ready for images."""

    model: MaskRCNN
    recipe: Recipe
    device: torch.device
    precision: Precision
    rungs: tuple[Execution, ...] = ("eager",)
    """Ways to run, best first, see `Ladder`."""
    choice: Choice | None = None
    """Classes that are looked for; None: all that the weights know."""
    _results: Lock = field(default_factory=Lock, init=False)
    """Held while results lie where a recorded graph's next prediction, maybe of another thread, overwrites them."""

    def __repr__(self) -> str:
        names = self.classes
        return f"{self.recipe.name}: {len(names)} classes ({some_of(names)}) on {self.device}"

    def choose(self, classes: Sequence[str]) -> "Predictor":
        """The same predictor for some classes: names, or `new=old`; several with one new name become one class.

        Raises ValueError for a name that the weights do not know.
        """
        ids = self.recipe.category_ids or range(1, len(self.recipe.classes) + 1)
        return replace(self, choice=choose(self.recipe.classes, ids, classes, self.recipe.name))

    def look(self, *, scales: Sequence[float] | None = None, flip: bool | None = None) -> "Predictor":
        """The same predictor that sees each image in several ways and merges what it finds in them.

        scales   sizes, as factors of the usual one; None: those of the weights' recipe (`evaluate.scales`)
        flip     whether each is also seen mirrored; None: as the recipe says (`evaluate.flip`)
        Raises ValueError for what no recipe may state.
        """
        wanted = {"evaluate.scales": scales and list(scales), "evaluate.flip": flip}
        given = {name: value for name, value in wanted.items() if value is not None}
        return replace(self, recipe=with_settings(self.recipe, given, "ways to look")) if given else self

    def cut(self, tile: int, overlap: float | None = None) -> "Predictor":
        """The same predictor for images that are cut into tiles; 0 takes images whole.

        tile      side of a tile in pixels of the image, as `data.tile`: it becomes as large as `data.short_sides` says
        overlap   as `data.tile_overlap`; None keeps the recipe's
        Raises ValueError for what no recipe may state.
        """
        wanted = tiling(tile) | ({"data.tile_overlap": overlap} if tile and overlap is not None else {})
        return replace(self, recipe=with_settings(self.recipe, wanted, "tiles"))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are looked for, in the order of their labels."""
        return self.recipe.classes if self.choice is None else self.choice.names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category ids of these classes."""
        return self.recipe.category_ids if self.choice is None else self.choice.ids

    @overload
    def predict(self, images: Image.Image | np.ndarray | Tensor, score: float = 0.5) -> Instances: ...
    @overload
    def predict(self, images: Sequence[ImageLike], score: float = 0.5) -> list[Instances]: ...
    @overload
    def predict(self, images: Where, score: float = 0.5) -> Instances | list[Instances]: ...

    def predict(self, images: ImageLike | Sequence[ImageLike], score: float = 0.5) -> Instances | list[Instances]:
        """The objects of one image, or a list of results for a list, a folder or a glob.

        images   path or address, PIL image, RGB array (h, w, 3) or gray (h, w), tensor (3, h, w) or (h, w, 3); where
                 the recipe's `data.mean` has C bands, arrays and tensors of C. Numbers of any type, which
                 `data.levels` maps as those of files
        score    smallest score; what the recipe's `model.box_head.score_threshold` drops does not come back with a
                 lower one
        Images of one padded size share a batch of `evaluate.batch`. Results carry their image. With `data.tile`, tiles
        share batches instead, and of a TIFF no more is in memory than a batch.
        """
        if isinstance(images, str | Path | Location) and not is_one_file(images):
            images = list(find_images([images]))
        oddities, wanted = Oddities(), [images] if isinstance(images, ImageLike) else images
        levels = levels_of(self.recipe.data)
        if self.recipe.data.tile:
            results = [self._predict_tiles(source_of(image, levels, oddities), score) for image in wanted]
        else:
            results = self.predict_levels([read(image, levels, oddities) for image in wanted], score)
        for note in oddities.notes():
            warnings.warn(note, Note, stacklevel=2)
        return results[0] if isinstance(images, ImageLike) else results

    def predict_levels(self, images: Sequence[Array], score: float = 0.5) -> list[Instances]:
        """The objects of decoded images, whose numbers are levels of 0..255 already: nothing maps them again.

        images   (h, w, bands), with the bands of the recipe's `data.mean`, as `maskrcnn.data.decode` gives them
        """
        if self.recipe.data.tile:
            return [self._predict_tiles(in_memory(image), score) for image in images]
        results: dict[int, Instances] = {}
        for indices in self._batches(images):
            found = self._predict_batch([images[i] for i in indices])
            for index, instances in zip(indices, found, strict=True):
                results[index] = replace(
                    instances.filter(score), image=images[index], shown_bands=self.recipe.data.shown_bands
                )
        return [results[index] for index in range(len(images))]

    def _predict_tiles(self, source: Source, score: float) -> Instances:
        """The objects of an image, found tile by tile and joined."""
        data = self.recipe.data
        windows = cut_images(np.array([source.size]), data.tile, data.tile_overlap).windows
        joiner, overview = Joiner(source.size, windows), Overview(source.size)
        for start in range(0, len(windows), self.recipe.evaluate.batch):
            parts = [tuple(window) for window in windows[start : start + self.recipe.evaluate.batch].tolist()]
            images = [source.read(part) for part in parts]
            for number, found in enumerate(self._predict_batch(images), start):
                joiner.add(number, found)
            for part, image in zip(parts, images, strict=True):
                overview.add(part, image)
        return replace(joiner.joined().filter(score), image=overview.image, shown_bands=data.shown_bands)

    def _batches(self, images: Sequence[Array]) -> Iterator[list[int]]:
        """Indices of images that are padded to the same size, at most `evaluate.batch` at once."""
        buckets: dict[Bucket, list[int]] = {}
        for index, image in enumerate(images):
            buckets.setdefault(self._bucket(self._view([image])), []).append(index)
        batch = self.recipe.evaluate.batch
        for indices in buckets.values():
            yield from (indices[start : start + batch] for start in range(0, len(indices), batch))

    def _predict_batch(self, images: Sequence[Array]) -> list[Instances]:
        originals = torch.tensor([image.shape[:2] for image in images])
        view = self._view(images)
        batch, raw_sizes = collate([self._reduced(image) for image in images])
        detections = self._detect(batch, raw_sizes, originals, view)
        names, category_ids = self.recipe.classes, self.recipe.category_ids
        head, frame = self.recipe.model.mask_head, self._ways.frame(view, originals)
        found = from_detections(detections, frame, originals, names, category_ids, head)
        return found if self.choice is None else [_chosen(one, self.choice) for one in found]

    @torch.inference_mode()
    def _detect(self, images: Tensor, raw_sizes: Tensor, originals: Tensor, view: View) -> Detections:
        bucket = self._bucket(view)
        batch = self._ways.prepare(images, raw_sizes, originals, view, bucket, self.device)
        alone = nullcontext() if self.execution == "eager" else self._results
        with (
            alone,
            self.precision.autocast(),
            explain_out_of_memory(self.device, len(images), bucket, f"{LESS_MEMORY}, {typed('precision bf16')}"),
        ):
            found = to_host(self._forward(batch), self.device)
            detections: Detections = found.wait()
        return detections

    @cached_property
    def _forward(self) -> Callable[..., Detections]:
        return laddered(self._ways.network(self.model), self.rungs, self.device, warnings.warn)

    @cached_property
    def _ways(self) -> Ways:
        return Ways.of(self.recipe.evaluate, self.recipe.data)

    @property
    def execution(self) -> Execution:
        """The way in which predictions run at present."""
        return self._forward.execution if isinstance(self._forward, Ladder) else self.rungs[0]

    def _view(self, images: Sequence[Array]) -> View:
        """Whole images, as evaluation resizes them."""
        data = self.recipe.data
        sizes = np.array([image.shape[:2] for image in images])
        return whole_views(sizes, np.full(len(sizes), max(data.short_sides)), data)

    def _bucket(self, view: View) -> Bucket:
        """The padded size that holds all of them."""
        data = self.recipe.data
        return box_bucket(data) if data.fit == "box" else smallest_bucket(view.sizes.numpy())

    def _reduced(self, image: Array) -> Array:
        """What `max_rowsize` leaves of a huge image, as in training; a tile stays as it is."""
        if self.recipe.data.tile:
            return image
        return reduced(image, math.ceil(math.sqrt(image.nbytes / (self.recipe.data.max_rowsize * MEBIBYTE))))


def _chosen(found: Instances, choice: Choice) -> Instances:
    """The objects of some classes, under their names there."""
    labels = choice.labels[found.labels]
    kept = found[labels > 0]
    labels = labels[labels > 0]
    names = [choice.names[label - 1] for label in labels.tolist()]
    return replace(kept, labels=labels, names=names, category_ids=choice.ids)


def _device(name: str | torch.device | None) -> torch.device:
    if isinstance(name, torch.device):
        return name
    setting = (name or "auto").lower()
    if setting in get_args(DeviceSetting):
        return choose_device(cast(DeviceSetting, setting), local_rank=0)
    words = ", ".join(get_args(DeviceSetting))
    try:
        device = torch.device(setting)
    except RuntimeError:
        raise ValueError(f"expected device {words} or one such as cuda:1, received {name!r}") from None
    if device.type != "cpu" and (device.index or 0) >= num_devices(device.type):
        raise ValueError(
            f"device {name}: {num_devices(device.type)} of kind {device.type} are visible here; expected one of "
            f"{words}, or a number below that"
        )
    return device
