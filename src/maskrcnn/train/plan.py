"""What a run is made of, checked before anything expensive begins: its data, its batch, its length."""

import math

import msgspec

from maskrcnn import config
from maskrcnn.config import Recipe
from maskrcnn.data.dataset import Dataset


def micro_batch_size(settings: config.Train, num_processes: int) -> int:
    """Images that a process takes at once. Raises ValueError, naming numbers that work, unless everything divides."""
    batch, micro = settings.batch, settings.micro_batch
    if batch % num_processes:
        near = sorted({max(1, batch // num_processes) * num_processes, -(-batch // num_processes) * num_processes})
        raise ValueError(
            f"train.batch is {batch}, which {num_processes} processes cannot share equally; set it to "
            + " or ".join(map(str, near))
        )
    share = batch // num_processes
    if micro and share % micro:
        divisors = [str(size) for size in range(1, share + 1) if share % size == 0]
        raise ValueError(
            f"train.micro_batch is {micro}, which does not divide the {share} images that each of {num_processes} "
            f"process(es) has of train.batch={batch}; set it to one of {', '.join(divisors)}"
        )
    return micro or share


def with_classes(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe with the categories of its data."""
    if recipe.category_ids and recipe.category_ids != data.category_ids:
        raise ValueError(
            f"classes and category_ids of the recipe differ from those of {data.annotations}; leave them out to take "
            "the annotations'"
        )
    return msgspec.structs.replace(recipe, classes=data.category_names, category_ids=data.category_ids)


def with_categories_of(training: Dataset, data: Dataset) -> Dataset:
    """The validation data. Raises ValueError when their categories are not those of the training data."""
    if (data.category_ids, data.category_names) != (training.category_ids, training.category_names):
        raise ValueError(
            f"{data.annotations} and {training.annotations} must list the same categories; "
            f"they have {_categories(data)}, and {_categories(training)}"
        )
    return data


def num_steps(settings: config.Train, num_images: int) -> tuple[int, int]:
    """Steps of an epoch and of the whole run."""
    per_epoch = math.ceil(num_images / settings.batch)
    return per_epoch, min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)


def _categories(data: Dataset) -> str:
    pairs = [f"{id} {name}" for id, name in zip(data.category_ids, data.category_names, strict=True)]
    return ", ".join(pairs[:8]) + (f" and {len(pairs) - 8} more" if len(pairs) > 8 else "")
