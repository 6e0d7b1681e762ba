"""What a run is made of, checked before anything expensive begins: its data, its batch, its length."""

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from maskrcnn import config
from maskrcnn.config import Recipe
from maskrcnn.data.augment.copy_paste import refuse_odd
from maskrcnn.data.augment.levels import resolve
from maskrcnn.data.buckets import Bucket, Samples, buckets_in_training, whole_images
from maskrcnn.data.dataset import Dataset, summary, why_nothing_is_learnt
from maskrcnn.data.sampling import shown
from maskrcnn.data.sharing import shares_of
from maskrcnn.data.split import OpenSplit
from maskrcnn.data.tiles import cut_data
from maskrcnn.sentences import some_of
from maskrcnn.train.schedule import Place


class Shares(NamedTuple):
    """How the images of a step are shared out."""

    processes: int
    parts: int
    """Micro-batches of a process in a step."""
    images: int
    """Images of a micro-batch, of the largest where they differ."""
    fewest: int
    """Images of the smallest one."""

    def __str__(self) -> str:
        images = f"{self.images}" if self.fewest == self.images else f"{self.fewest} or {self.images}"
        return f"{self.processes} x {self.parts} x {images}"


class Splits(NamedTuple):
    """What a run learns from, and what it is scored on, if anything."""

    training: Dataset
    validation: Dataset | None

    @property
    def are_one(self) -> bool:
        """Whether the validation images were set apart from one data set."""
        one, other = self.training, self.validation
        return other is not None and (one.annotations, one.images) == (other.annotations, other.images)


class Plan(NamedTuple):
    """The steps of a run."""

    shares: Shares
    data: Dataset
    """The images that are learnt: those for training, or their tiles."""
    samples: Samples
    """What epochs choose from."""
    buckets: list[Bucket]
    steps_per_epoch: int
    total_steps: int

    @property
    def num_epochs(self) -> int:
        """Epochs, the last of which may be cut short."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def place(self, step: int) -> Place:
        """Where the schedule is after `step` updates."""
        return Place(step, step / self.steps_per_epoch, step / self.total_steps)

    def steps_of(self, epoch: int) -> tuple[int, int]:
        """Steps that are done when an epoch begins, and when it ends."""
        return epoch * self.steps_per_epoch, min((epoch + 1) * self.steps_per_epoch, self.total_steps)


def share_out(settings: config.Train, num_processes: int) -> Shares:
    """Shares of a step's images. Raises ValueError, naming numbers that work, where a process would have none."""
    shares = shares_of(settings.batch, num_processes, settings.micro_batch)
    sizes = [part.stop - part.start for share in shares for part in share]
    return Shares(num_processes, len(shares[0]), max(sizes), min(sizes))


def read_splits(recipe: Recipe, say: Callable[[str], None], open_split: OpenSplit) -> Splits:
    """Read the annotations, and say what they hold.

    Raises ValueError when there is nothing to learn, or the splits differ in their categories.
    """
    settings, every = recipe.data, recipe.train.evaluate_every
    training = open_split(settings if every else msgspec.structs.replace(settings, val_share=0.0), "train")
    say(summary(training))
    check_content(training)
    if not every:
        return Splits(training, None)
    validation = open_split(recipe.data, "val")
    check_categories(validation, training)
    say(summary(validation))
    return Splits(training, validation)


def plan_steps(recipe: Recipe, data: Dataset, shares: Shares) -> Plan:
    data = cut_data(data, recipe.data)
    if resolve(recipe.data.augment).copy_paste:
        refuse_odd(shares.images)
        refuse_odd(shares.fewest)
    samples = whole_images(data.sizes)
    buckets = buckets_in_training(samples, recipe.data)
    epoch = shown(samples, data, recipe.data, seed=recipe.train.seed, epoch=0)
    return Plan(shares, data, samples, buckets, *num_steps(recipe.train, len(epoch.images)))


def with_classes(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe with the categories of its data."""
    if recipe.category_ids and recipe.category_ids != data.category_ids:
        raise ValueError(
            f"classes and category_ids of the recipe differ from those of {data.annotations}; leave them out to take "
            "the annotations'"
        )
    return msgspec.structs.replace(recipe, classes=data.category_names, category_ids=data.category_ids)


def check_content(data: Dataset) -> None:
    """Raise ValueError where no object can be learnt."""
    if not data.has_something_to_learn:
        advice = "correct their boxes" if len(data.labels) else "annotate some"
        if data.crowd.any():
            advice = "set `iscrowd` to 0, if a tool such as CVAT wrote 1 for every mask"
        raise ValueError(f"{data.annotations}: there is nothing to learn: {why_nothing_is_learnt(data)}; {advice}")


def check_categories(data: Dataset, training: Dataset) -> None:
    """Raise ValueError unless the categories are those of the training data."""
    if (data.category_ids, data.category_names) != (training.category_ids, training.category_names):
        raise ValueError(
            f"{data.annotations} and {training.annotations} must list the same categories; "
            f"they have {_categories(data)}, and {_categories(training)}"
        )


def num_steps(settings: config.Train, num_samples: int) -> tuple[int, int]:
    """Steps of an epoch and of the whole run."""
    per_epoch = math.ceil(num_samples / settings.batch)
    return per_epoch, min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)


def _categories(data: Dataset) -> str:
    return some_of((f"{id} {name}" for id, name in zip(data.category_ids, data.category_names, strict=True)), 8)
