"""Batches of training with every piece of augmentation: chance belongs to images, not to those who prepare them."""

import msgspec
import pytest
import torch
from torch.utils._pytree import tree_leaves

from maskrcnn.config import Augment, Data
from maskrcnn.data import buckets
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.augment.geometry import Objects
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.formats import coco
from maskrcnn.data.loader import Loader

SIZES = [(40, 60), (60, 45), (33, 44), (52, 30), (40, 50), (38, 64), (45, 45), (64, 32)]
EVERYTHING = Augment(strength="strong", flip_vertical=0.5, quarter_turns=True, copy_paste=0.5, blend=1.0)
DATA = Data(num_workers=0, short_sides=(48, 64), max_side=128, num_buckets=3)


@pytest.fixture
def data(write_split, annotate):
    squares = ([x, y, x + 15, y, x + 15, y + 12, x, y + 12] for x in (2.0, 14.0, 21.0) for y in (1.0, 9.0, 18.0))
    rows = [
        annotate(10 * image + k, image, segmentation=[square], bbox=[square[0], square[1], 15.0, 12.0])
        for k, square in enumerate(squares)
        for image in range(1, 9)
    ]
    return coco.read(*write_split(rows, sizes=SIZES))


def batches(data, augment, *, batch=8, workers=0, **share):
    settings = msgspec.structs.replace(DATA, augment=augment, num_workers=workers)
    samples = buckets.whole_images(data.sizes)
    chosen = buckets.buckets_for(data.sizes, settings, settings.short_sides)
    chosen += buckets.buckets_for(data.sizes[:, ::-1], settings, settings.short_sides)
    plan = []
    for epoch in range(2):
        how = {"batch": batch, "seed": 1, "epoch": epoch, "objects": Objects.of(data)}
        plan += buckets.plan_epoch(samples, settings, chosen, **how)
    make = micro_batch_maker(AnnotationStore(data, torch.device("cpu")), torch.device("cpu"), settings, one_shape=True)
    return [make(raw) for raw in Loader(data, plan, settings, **share)]


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_threads_and_repeats_change_no_bit(data):
    plain = batches(data, EVERYTHING)
    for workers in (0, 2, 4):
        assert_same(plain, batches(data, EVERYTHING, workers=workers))


def test_two_processes_with_four_images_see_what_one_sees_with_eight(data):
    whole = batches(data, EVERYTHING)
    shares = [batches(data, EVERYTHING, rank=rank, world_size=2, micro_batch=4) for rank in (0, 1)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for one, *halves in zip(*map(tree_leaves, (batch, *parts)), strict=True):
            assert torch.equal(one, torch.cat(halves))


def test_everything_off_is_what_it_is_without_the_section(data):
    zero = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "blur": 0.0, "noise": 0.0, "jpeg": 100}
    assert_same(batches(data, Augment(**zero, copy_paste=0.0)), batches(data, Augment()))
    assert all(batch.targets.hiding is None for batch in batches(data, Augment()))


@pytest.mark.parametrize(
    "piece",
    [
        *({"brightness": 0.3}, {"contrast": 0.3}, {"saturation": 0.5}, {"hue": 0.1}),
        *({"blur": 1.0}, {"noise": 9.0}, {"jpeg": 30}, {"copy_paste": 1.0}),
    ],
    ids=lambda piece: next(iter(piece)),
)
def test_each_setting_changes_pixels_of_some_images_alone(data, piece):
    changed = [
        bool((one != other).any())
        for before, after in zip(batches(data, Augment()), batches(data, Augment(**piece)), strict=True)
        for one, other in zip(before.images.pixels, after.images.pixels, strict=True)
    ]
    assert any(changed)
    assert all(changed) == ("copy_paste" in piece)


def test_evaluation_sees_images_as_they_are(data):
    settings = msgspec.structs.replace(DATA, augment=EVERYTHING)
    chosen = buckets.buckets_for(data.sizes, settings, settings.short_sides)
    samples = buckets.whole_images(data.sizes)
    augmented, plain = (
        list(Loader(data, buckets.plan_evaluation(samples, one, chosen, batch=4), one)) for one in (settings, DATA)
    )
    assert_same(augmented, plain)
