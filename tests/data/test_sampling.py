"""How often an epoch shows each image, by formulas worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from maskrcnn.config import Data
from maskrcnn.data import sampling
from maskrcnn.data.buckets import plan_epoch, whole_images
from maskrcnn.data.dataset import Dataset
from maskrcnn.masks import Rings

HAS = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]], bool)
"""Six of eight images show the first class, one the second, none the third; two show nothing."""


def dataset(has: np.ndarray = HAS, crowd: tuple[int, ...] = ()) -> Dataset:
    owners, classes = np.nonzero(has)
    number = len(owners)
    rings = Rings(np.zeros((0, 2), np.float32), np.zeros(number + 1, np.int32))
    return Dataset(
        annotations=Path("here"),
        images=Path("there"),
        image_ids=np.arange(len(has)),
        file_names=[f"{index}.png" for index in range(len(has))],
        sizes=np.array([[30, 40]] * len(has)),
        first_object=np.searchsorted(owners, np.arange(len(has) + 1)).astype(np.int64),
        annotation_ids=np.arange(number),
        labels=classes + 1,
        boxes=np.array([[1, 2, 11, 22]] * number, np.float32),
        areas=np.full(number, 200.0),
        crowd=np.isin(np.arange(number), crowd),
        flags=np.zeros(number, np.uint8),
        rings=rings,
        first_ring=np.arange(number + 1),
        category_ids=(3, 5, 9),
        category_names=("common", "rare", "absent"),
    )


def shown(settings: Data, epoch: int = 0, has: np.ndarray = HAS) -> np.ndarray:
    data = dataset(has)
    images = sampling.shown(whole_images(data.sizes), data, settings, seed=7, epoch=epoch).images
    return np.bincount(images, minlength=len(has))


def test_every_image_comes_once_unless_told_otherwise():
    samples = whole_images(dataset().sizes)
    assert sampling.shown(samples, dataset(), Data(), seed=1, epoch=2) is samples


def test_repeat_factors_are_those_of_lvis():
    # sqrt(0.5 / (6 / 8)) < 1 leaves the common class alone, the rare one is wanted sqrt(0.5 / (1 / 8)) = 2 times.
    assert sampling.repeat_factors(HAS, 0.5).tolist() == [1, 2, 1, 1, 1, 1, 1, 1]
    # At 1 both are repeated, and the larger factor counts: sqrt(8 / 6) and sqrt(8).
    common, rare = 1.1547005, 2.8284271
    expected = [common, rare, common, 1, common, common, 1, common]
    assert sampling.repeat_factors(HAS, 1.0) == pytest.approx(expected)


def test_balanced_classes_are_each_drawn_equally_often():
    # Two classes are there: half of six draws each, shared by six images and by one.
    assert sampling.balanced(HAS) == pytest.approx([0.5, 3.5, 0.5, 0, 0.5, 0.5, 0, 0.5])


def test_fractions_become_whole_numbers_with_these_means_and_always_one_sum():
    wanted = np.array([1.0, 2.5, 0.25, 1.75, 0.5, 3.0, 0.75, 0.25])
    found = np.array([sampling.drawn(wanted, seed=3, epoch=epoch) for epoch in range(4000)])
    assert set(found.sum(axis=1).tolist()) == {10}
    assert (abs(found - wanted) < 1).all()
    assert found.mean(axis=0) == pytest.approx(wanted, abs=0.06)
    assert (found[0] == sampling.drawn(wanted, seed=3, epoch=0)).all()
    assert (found[0] != found[1]).any() or (found[0] != found[2]).any()


def test_rare_classes_come_more_often_and_nothing_is_lost():
    settings = Data(sampling="repeat_factor", repeat_threshold=1.0)
    counts = np.array([shown(settings, epoch) for epoch in range(200)])
    assert set(counts.sum(axis=1).tolist()) == {11}  # 5 * 1.155 + 2.828 + 2 = 10.6
    assert counts.min() >= 1
    assert set(counts[:, 1].tolist()) == {2, 3}


@pytest.mark.parametrize(("share", "number"), [(0.0, 0), (0.25, 2), (0.5, 6), (0.7, 14)])
def test_images_without_objects_have_the_share_that_is_wanted(share, number):
    counts = shown(Data(negatives=share))
    assert counts[[3, 6]].sum() == number
    assert (np.delete(counts, [3, 6]) == 1).all()


def test_a_part_of_the_images_without_objects_are_others_in_each_epoch():
    has = np.concatenate([HAS[:1].repeat(4, axis=0), np.zeros((40, 3), bool)])
    epochs = [shown(Data(negatives=0.5), epoch, has) for epoch in range(60)]
    assert {int(counts[4:].sum()) for counts in epochs} == {4}
    assert (np.sum(epochs, axis=0)[4:] > 0).all()


def test_no_image_without_objects_can_be_shown_where_there_is_none():
    with pytest.raises(ValueError, match=r"here: data\.negatives is 0\.5, but every image has objects; leave it out"):
        shown(Data(negatives=0.5), has=HAS[[0, 1]])
    assert shown(Data(negatives=0.0), has=HAS[[0, 1]]).tolist() == [1, 1]


def test_crowd_regions_and_what_is_not_learnt_show_no_class():
    data = dataset(crowd=(1, 2))
    assert sampling.has_classes(data)[1].tolist() == [False, False, False]


def test_a_repeated_image_is_seen_differently_each_time():
    settings = Data(sampling="class_balanced", short_sides=(30,), max_side=40, flip=0.5)
    data = dataset()
    samples = sampling.shown(whole_images(data.sizes), data, settings, seed=7, epoch=0)
    steps = plan_epoch(samples, settings, [(32, 64)], batch=2, seed=7, epoch=0)
    keys = np.concatenate([step.keys for step in steps])
    assert len(set(keys.tolist())) >= len(samples.images)
