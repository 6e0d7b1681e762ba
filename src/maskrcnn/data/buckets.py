"""Which samples travel together: a handful of padded sizes, and the batches of an epoch.

Everything here is a pure function of the samples' sizes, the settings, the seed and the epoch: neither the number
of workers nor of processes changes a batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from maskrcnn.config import Data, Fit, Rounding
from maskrcnn.data.augment.geometry import Objects, jitter, sizes_in_training
from maskrcnn.data.augment.jpeg import qualities
from maskrcnn.data.augment.levels import resolve
from maskrcnn.data.keys import image_keys, uniform
from maskrcnn.view import View

Bucket = tuple[int, int]
"""(height, width) that a batch is padded to."""
DIVISOR = 32  # coarsest stride whose cells the pyramid must share
MAX_SHAPES = 256  # bounds the search; with more distinct shapes they are first rounded up further


class Samples(NamedTuple):
    """What a plan shares out among batches: parts of images, in any number and order; mostly each image once, whole."""

    images: Int64[np.ndarray, " S"]
    """Index of each sample's image in the data set."""
    windows: Int64[np.ndarray, "S 4"]
    """xyxy, whole pixels of the original image, inside it."""

    @property
    def sizes(self) -> Int64[np.ndarray, "S 2"]:
        """(height, width) of each window."""
        return self.windows[:, 3:1:-1] - self.windows[:, 1::-1]

    def take(self, index: Int64[np.ndarray, " n"]) -> "Samples":
        """Some of them; one that is named twice comes twice, each time with chances of its own."""
        return Samples(self.images[index], self.windows[index])


def whole_images(sizes: Int64[np.ndarray, "n 2"]) -> Samples:
    """Every image once, as a whole.

    >>> whole_images(np.array([[480, 640]])).windows.tolist()
    [[0, 0, 640, 480]]
    """
    return Samples(np.arange(len(sizes)), np.pad(sizes[:, ::-1], ((0, 0), (2, 0))))


class Step(NamedTuple):
    """One batch: which images, what is seen of each, and what chance decided for it."""

    bucket: Bucket
    indices: Int64[np.ndarray, " n"]
    """Index of each image in the data set."""
    view: View
    keys: Int64[np.ndarray, " n"]
    """Random numbers for the step itself, one per sample."""
    qualities: Int64[np.ndarray, " n"] | None = None
    """JPEG quality that each image is compressed with when it is decoded; None where none is."""

    def take(self, part: slice) -> "Step":
        """Some of its images."""
        qualities = None if self.qualities is None else self.qualities[part]
        return Step(self.bucket, self.indices[part], self.view.take(part), self.keys[part], qualities)


def resized_size(
    height: int, width: int, short_side: int, max_side: int, rounding: Rounding = "nearest", fit: Fit = "sides"
) -> tuple[int, int]:
    """The size whose shorter side is `short_side`, unless the longer one would exceed `max_side`.

    With `fit` "box": the largest size that is at most `short_side` high and `max_side` wide.
    """
    size = resized_sizes(np.array([[height, width]]), np.array([short_side]), max_side, rounding, fit)[0]
    return int(size[0]), int(size[1])


def resized_sizes(
    sizes: Int64[np.ndarray, "n 2"],
    short_sides: Int64[np.ndarray, " n"],
    max_side: int,
    rounding: Rounding = "nearest",
    fit: Fit = "sides",
) -> Int64[np.ndarray, "n 2"]:
    """`resized_size` of many images.

    Both roundings calculate in the order of their makers, Detectron2 and torchvision, so that sizes agree to the pixel;
    in a box, halves become even, as in OpenCV.
    """
    if fit == "box":
        exact = sizes * _box_scale(sizes, short_sides, max_side)
        return (np.floor(exact) if rounding == "down" else np.rint(exact)).astype(np.int64).clip(min=1)
    if rounding == "down":
        scale = np.minimum(short_sides / sizes.min(axis=1), max_side / sizes.max(axis=1))
        return np.floor(sizes * scale[:, None]).astype(np.int64).clip(min=1)
    exact = sizes * (short_sides / sizes.min(axis=1))[:, None]
    exact = exact * np.minimum(max_side / exact.max(axis=1), 1.0)[:, None]
    return (exact + 0.5).astype(np.int64).clip(min=1)


def _resized(
    sizes: Int64[np.ndarray, "n 2"], short_sides: Int64[np.ndarray, " n"], settings: Data
) -> Int64[np.ndarray, "n 2"]:
    """Resized sizes as the settings want them: tiles, of which small images give smaller ones, have one scale."""
    if not settings.tile:
        return resized_sizes(sizes, short_sides, settings.max_side, settings.rounding, settings.fit)
    exact = sizes * (short_sides / settings.tile)[:, None]
    return (np.floor(exact) if settings.rounding == "down" else np.floor(exact + 0.5)).astype(np.int64).clip(min=1)


def whole_views(
    sizes: Int64[np.ndarray, "n 2"],
    short_sides: Int64[np.ndarray, " n"],
    settings: Data,
    mirrored: Bool[Tensor, " n"] | None = None,
) -> View:
    """The views of whole images of these original sizes, resized as `resized_sizes` says.

    In a box, height and width have exactly one scale, as in OpenCV: rounded sizes show up to half a pixel more or less
    than the image. By two scales, edges of photos would differ by up to 16 levels.
    """
    resized = _resized(sizes, short_sides, settings)
    view = View.whole(torch.tensor(sizes), torch.tensor(resized), mirrored)
    if settings.fit == "sides":
        return view
    scale = _box_scale(sizes, short_sides, settings.max_side)
    shown = np.minimum(resized / scale, sizes + 0.499 / scale)  # the last samples' centres stay inside the image
    return view._replace(windows=torch.tensor(np.pad(shown[:, ::-1], ((0, 0), (2, 0))), dtype=torch.float32))


def views_of(
    samples: Samples, short_sides: Int64[np.ndarray, " n"], settings: Data, mirrored: Bool[Tensor, " n"] | None = None
) -> View:
    """The views of samples, each window resized as an image of its size is."""
    view = whole_views(samples.sizes, short_sides, settings, mirrored)
    return view._replace(windows=view.windows + torch.from_numpy(samples.windows[:, [0, 1, 0, 1]]))


def _box_scale(
    sizes: Int64[np.ndarray, "n 2"], heights: Int64[np.ndarray, " n"], width: int
) -> Float64[np.ndarray, "n 1"]:
    return np.minimum(heights / sizes[:, 0], width / sizes[:, 1])[:, None]


def buckets_for(sizes: Int64[np.ndarray, "n 2"], settings: Data, short_sides: Sequence[int]) -> list[Bucket]:
    """Buckets for images of these original sizes, whichever of the short sides each one is given."""
    if settings.fit == "box":
        return [box_bucket(settings)]
    resized = [_resized(sizes, np.full(len(sizes), side), settings) for side in short_sides]
    return choose_buckets(np.concatenate(resized), settings.num_buckets)


def buckets_in_training(samples: Samples, settings: Data) -> list[Bucket]:
    """Buckets for samples as training shows them, whichever short side and whichever turn chance gives each one."""
    sizes = sizes_in_training(samples.sizes, resolve(settings.augment))
    return buckets_for(sizes, settings, settings.short_sides)


def box_bucket(settings: Data) -> Bucket:
    """The bucket of all images that are fitted into a box: the box itself, at its highest."""
    return smallest_bucket(np.array([[max(settings.short_sides), settings.max_side]]))


def smallest_bucket(sizes: Int64[np.ndarray, "n 2"]) -> Bucket:
    """The bucket that just holds images of these resized sizes, in steps that the pyramid can halve."""
    height, width = (-(-sizes.max(axis=0) // DIVISOR) * DIVISOR).tolist()
    return height, width


def choose_buckets(sizes: Int64[np.ndarray, "n 2"], num_buckets: int, divisor: int = DIVISOR) -> list[Bucket]:
    """At most `num_buckets` sizes, multiples of `divisor`, that hold all images with little padding.

    One of them, the last, covers every image, so that any images can share a batch. The others start from merging
    the two shapes whose union costs least, again and again, and then move one by one while padded area shrinks.
    """
    shapes, counts = _shapes(sizes, divisor)
    everything = shapes.max(axis=0)
    buckets = np.concatenate([_merge(shapes, counts, num_buckets - 1), everything[None]])
    heights, widths = (np.unique(shapes[:, axis]) for axis in (0, 1))
    candidates = np.stack(np.meshgrid(heights, widths, indexing="ij"), axis=-1).reshape(-1, 2)
    padded = _padded_area(candidates, shapes)
    best = np.inf
    while (total := (_padded_area(buckets, shapes).min(axis=0) * counts).sum()) < best:
        best = total
        for index in range(len(buckets) - 1):
            others = _padded_area(np.delete(buckets, index, axis=0), shapes).min(axis=0)
            buckets[index] = candidates[(np.minimum(padded, others) @ counts).argmin()]
    used = np.unique(_padded_area(buckets, shapes).argmin(axis=0))
    smaller = {tuple(bucket) for bucket in buckets[used].tolist()} - {tuple(everything.tolist())}
    return [*sorted(smaller, key=lambda bucket: (bucket[0] / bucket[1], bucket)), tuple(everything.tolist())]


def assign(sizes: Int64[np.ndarray, "n 2"], buckets: Sequence[Bucket]) -> Int64[np.ndarray, " n"]:
    """The smallest bucket that holds each size."""
    area = _padded_area(np.array(buckets), sizes)
    if not np.isfinite(area.min(axis=0)).all():
        height, width = sizes[~np.isfinite(area.min(axis=0))][0]
        raise ValueError(f"no bucket of {list(buckets)} holds {height} x {width}; choose them from these images' sizes")
    return area.argmin(axis=0)


def plan_epoch(
    samples: Samples,
    settings: Data,
    buckets: Sequence[Bucket],
    *,
    batch: int,
    seed: int,
    epoch: int,
    objects: Objects | None = None,
) -> list[Step]:
    """The ceil(S / batch) training batches of one epoch, all full, every sample in at least one.

    objects   of the data set, which windows may be placed around
    Samples of one bucket go together; what is left over in all buckets is sorted by shape and mixed. The epoch's
    first samples come a second time where the last batch would not be full.
    """
    keys = image_keys(seed, epoch, len(samples.images))
    sides = np.array(settings.short_sides)[(uniform(keys, 1) * len(settings.short_sides)).astype(np.int64)]
    view = views_of(samples, sides, settings, torch.tensor(uniform(keys, 2) < settings.flip))
    around = None if objects is None else objects.draw(samples.images, keys)
    pieces = resolve(settings.augment, len(settings.mean))
    view = jitter(view, samples.windows, keys, pieces, box=_box_sizes(sides, settings), around=around)
    resized = view.sizes.numpy()
    order = np.argsort(uniform(keys, 3), kind="stable")
    full, rest = _full_batches(order, assign(resized, buckets), batch)
    rest = np.concatenate([rest, np.resize(order, -len(rest) % batch)])
    groups = full + _cut(_by_shape(rest, resized), batch)
    turn = np.argsort(uniform(image_keys(seed, epoch, len(groups)), 4), kind="stable")
    steps = _steps([groups[i] for i in turn], samples.images, view, keys, buckets)
    return [step._replace(qualities=qualities(step.keys, pieces.jpeg)) for step in steps]


def _box_sizes(short_sides: Int64[np.ndarray, " n"], settings: Data) -> Int64[np.ndarray, "n 2"] | None:
    """(height, width) of the box that each sample is fitted into, if any."""
    if settings.fit == "sides":
        return None
    return np.stack([short_sides, np.full_like(short_sides, settings.max_side)], axis=1)


def plan_evaluation(samples: Samples, settings: Data, buckets: Sequence[Bucket], *, batch: int) -> list[Step]:
    """Every sample exactly once, unflipped, at the largest short side; only the last batch may be smaller.

    `plan[rank::world_size]` is one process's share.
    """
    number = len(samples.images)
    view = views_of(samples, np.full(number, max(settings.short_sides)), settings)
    resized = view.sizes.numpy()
    full, rest = _full_batches(np.arange(number), assign(resized, buckets), batch)
    groups = full + _cut(_by_shape(rest, resized), batch)
    return _steps(groups, samples.images, view, image_keys(0, 0, number), buckets)


def _shapes(sizes: Int64[np.ndarray, "n 2"], divisor: int) -> tuple[Int64[np.ndarray, "m 2"], Int64[np.ndarray, " m"]]:
    """Distinct sizes rounded up, and how many images have each."""
    grain = divisor
    while True:
        shapes, owner, counts = np.unique(-(-sizes // grain), axis=0, return_inverse=True, return_counts=True)
        if len(shapes) <= MAX_SHAPES:
            break
        grain *= 2
    largest = np.zeros_like(shapes)  # not shapes * grain: rounding further would only add padding
    np.maximum.at(largest, owner.reshape(-1), -(-sizes // divisor) * divisor)
    return largest, counts


def _merge(
    shapes: Int64[np.ndarray, "m 2"], counts: Int64[np.ndarray, " m"], num_left: int
) -> Int64[np.ndarray, "_ 2"]:
    """Join shapes greedily until `num_left` remain."""
    if num_left == 0:
        return shapes[:0]
    while len(shapes) > num_left:
        area = shapes.prod(axis=1)
        union = np.maximum(shapes[:, None], shapes)
        waste = (union.prod(axis=2) - area) * counts
        waste = (waste + waste.T).astype(np.float64)
        np.fill_diagonal(waste, np.inf)
        i, j = np.unravel_index(waste.argmin(), waste.shape)
        shapes, counts = shapes.copy(), counts.copy()
        shapes[i], counts[i] = union[i, j], counts[i] + counts[j]
        shapes, counts = np.delete(shapes, j, axis=0), np.delete(counts, j)
    return shapes


def _padded_area(buckets: Int64[np.ndarray, "k 2"], sizes: Int64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "k n"]:
    """Area of each bucket for each image, infinite where it does not fit."""
    fits = (sizes[None] <= buckets[:, None]).all(axis=2)
    return np.where(fits, buckets.prod(axis=1)[:, None].astype(np.float64), np.inf)


def _full_batches(
    order: Int64[np.ndarray, " n"], bucket: Int64[np.ndarray, " n"], batch: int
) -> tuple[list[Int64[np.ndarray, " _"]], Int64[np.ndarray, " rest"]]:
    """Batches of images of one bucket, in the given order, and the images left over."""
    full: list[Int64[np.ndarray, " _"]] = []
    rest = []
    for index in np.unique(bucket):
        members = order[bucket[order] == index]
        whole = len(members) - len(members) % batch
        full.extend(_cut(members[:whole], batch))
        rest.append(members[whole:])
    return full, np.concatenate(rest)


def _by_shape(indices: Int64[np.ndarray, " n"], sizes: Int64[np.ndarray, "m 2"]) -> Int64[np.ndarray, " n"]:
    """Wide images first, tall ones last: neighbours pad each other least."""
    height, width = sizes[indices].T
    return indices[np.argsort(height / width, kind="stable")]


def _cut(indices: Int64[np.ndarray, " n"], batch: int) -> list[Int64[np.ndarray, " _"]]:
    return [indices[start : start + batch] for start in range(0, len(indices), batch)]


def _steps(
    groups: Sequence[Int64[np.ndarray, " _"]],
    images: Int64[np.ndarray, " n"],
    view: View,
    keys: Int64[np.ndarray, " n"],
    buckets: Sequence[Bucket],
) -> list[Step]:
    """Make batches of groups of samples, from the image, the view and the key of every sample."""
    most = np.array([view.sizes.numpy()[group].max(axis=0) for group in groups])
    return [
        Step(buckets[covering], images[group], view.take(torch.from_numpy(group)), keys[group])
        for covering, group in zip(assign(most, buckets), groups, strict=True)
    ]
