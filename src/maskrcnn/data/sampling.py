"""How often an epoch shows each sample: once, more often where its classes are rare, and so many without objects.

A pure function of data, settings, seed and epoch. Every epoch has the same number of samples.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from maskrcnn.config import Data
from maskrcnn.data.buckets import Samples
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.keys import image_keys, uniform
from maskrcnn.data.tiles import with_few_empty

STREAM = 40
"""Stream of random numbers, which no other chance in an epoch shares."""


def shown(samples: Samples, data: Dataset, settings: Data, *, seed: int, epoch: int) -> Samples:
    """What an epoch shows; all of the samples once unless the settings want something else.

    Raises ValueError where images without objects are wanted and there are none.
    """
    if settings.negatives is None:
        samples = with_few_empty(samples, data, settings, seed=seed, epoch=epoch)
        if settings.sampling == "uniform":
            return samples
    has = has_classes(data)[samples.images]
    if settings.negatives and has.any(axis=1).all():
        raise ValueError(
            f"{data.annotations}: data.negatives is {settings.negatives}, but every image has objects; leave it out"
        )
    counts = drawn(how_often(has, settings), seed=seed, epoch=epoch)
    return samples.take(np.repeat(np.arange(len(counts)), counts))


def has_classes(data: Dataset) -> Bool[np.ndarray, "N K"]:
    """Which classes each image shows, in objects that are learnt; crowd regions show none."""
    found = np.zeros((len(data.image_ids), len(data.category_ids)), np.bool_)
    counted = data.learnt & ~data.crowd
    found[data.owners[counted], data.labels[counted] - 1] = True
    return found


def how_often(has: Bool[np.ndarray, "S K"], settings: Data) -> Float64[np.ndarray, " S"]:
    """How often each sample is wanted in an epoch, in the mean.

    has   which classes each one shows
    """
    wanted, is_empty = np.ones(len(has)), ~has.any(axis=1)
    if settings.sampling == "repeat_factor":
        wanted = repeat_factors(has, settings.repeat_threshold)
    elif settings.sampling == "class_balanced":
        wanted = np.where(is_empty, 1.0, balanced(has))
    if settings.negatives is not None and is_empty.any():
        others = wanted[~is_empty].sum()
        wanted[is_empty] = settings.negatives / (1 - settings.negatives) * others / np.count_nonzero(is_empty)
    return wanted


def repeat_factors(has: Bool[np.ndarray, "S K"], threshold: float) -> Float64[np.ndarray, " S"]:
    """The largest of max(1, sqrt(threshold / f)) over the classes of a sample, which a share f of all samples show.

    Source: Gupta, Dollar and Girshick 2019, section 5.
    """
    share = has.mean(axis=0)
    factors = np.sqrt(np.divide(threshold, share, out=np.ones_like(share), where=share > 0)).clip(min=1.0)
    return np.where(has, factors, 1.0).max(axis=1, initial=1.0)


def balanced(has: Bool[np.ndarray, "S K"]) -> Float64[np.ndarray, " S"]:
    """How often each sample comes when a class is drawn, each with the same chance, then a sample that shows it.

    There are as many draws as samples that show something.

    Source: Shen, Lin and Huang 2016, class-aware sampling.
    """
    counts = has.sum(axis=0)
    draws = np.count_nonzero(has.any(axis=1))
    weights = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0) / max(np.count_nonzero(counts), 1)
    return np.asarray(draws * (has @ weights))


def drawn(wanted: Float64[np.ndarray, " S"], *, seed: int, epoch: int) -> Int64[np.ndarray, " S"]:
    """Whole numbers with these means, others in each epoch, with one sum.

    What is left of the whole numbers goes to the samples of the smallest ratio of a random number to what they lack:
    a chance of about that much each. Source: Ohlsson 1998, sequential Poisson sampling.
    """
    counts = np.floor(wanted).astype(np.int64)
    lacking = wanted - counts
    number = round(float(wanted.sum())) - int(counts.sum())
    chances = uniform(image_keys(seed, epoch, len(wanted)), STREAM)
    ratios = np.divide(chances, lacking, out=np.full(len(wanted), np.inf), where=lacking > 0)
    counts[np.argsort(ratios, kind="stable")[:number]] += 1
    return counts
