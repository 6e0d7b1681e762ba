"""Where windows lie and how they turn: distributions as published, objects whole, and keys alone decide."""

import hashlib

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from maskrcnn.config import Augment, Data
from maskrcnn.data.augment.geometry import Objects, jitter, sizes_in_training
from maskrcnn.data.augment.levels import Pieces, resolve
from maskrcnn.data.buckets import buckets_for, plan_epoch, views_of, whole_images
from maskrcnn.data.keys import image_keys
from maskrcnn.view import View, extents_of, matrix, move_points, surround_boxes

SIZES = np.array([[480, 640], [640, 480], [426, 640], [500, 500], [333, 500], [640, 427], [375, 500]] * 7)
ALL = Augment(scale=(0.5, 2.0), whole_objects=0.5, angle=30.0, flip_vertical=0.5, quarter_turns=True)


def jittered(sizes, pieces, settings=None, around=None, box=None):
    """Views of whole images, and those that chance makes of them."""
    settings = settings or Data(short_sides=(256,), max_side=512)
    samples = whole_images(np.array(sizes))
    keys = image_keys(3, 1, len(sizes))
    view = views_of(samples, np.full(len(sizes), settings.short_sides[0]), settings)
    boxes = None if box is None else np.array([box] * len(sizes))
    return view, jitter(view, samples.windows, keys, pieces, box=boxes, around=around)


def plan(augment, fit="sides", batch=4, epoch=0, objects=None):
    settings = Data(short_sides=(160, 200), max_side=320, num_buckets=4, fit=fit, augment=augment)
    buckets = buckets_for(sizes_in_training(SIZES, resolve(augment)), settings, settings.short_sides)
    return plan_epoch(whole_images(SIZES), settings, buckets, batch=batch, seed=5, epoch=epoch, objects=objects)


def some_objects():
    low = np.random.default_rng(0).uniform(0, 300, (98, 2))
    return Objects(np.concatenate([low, low + 30], 1).astype(np.float32), np.arange(50) * 2)


@pytest.mark.parametrize(
    ("fit", "digest"),
    [
        ("sides", "0c6e962bbbed8959840ce3adc4a9a34e33ee8b9ca518589807c985d772d901c2"),
        ("box", "c397b56c2babb430e9aa277eb820163c470e3ee09b8b907193abd86e12c55483"),
    ],
)
def test_a_plan_without_augmentation_is_to_the_last_bit_what_it_was_before_there_was_any(fit, digest):
    found = hashlib.sha256()
    for step in plan(Augment(), fit, objects=some_objects()):
        assert step.view.turns is step.view.angles is None
        columns = (
            step.indices,
            step.view.windows.numpy(),
            step.view.sizes.numpy(),
            step.view.mirrored.numpy(),
            step.keys,
        )
        for column in (np.array(step.bucket), *columns):
            found.update(np.ascontiguousarray(column).tobytes())
    assert found.hexdigest() == digest


@pytest.mark.parametrize("fit", ["sides", "box"])
def test_what_chance_decides_depends_on_seed_epoch_and_image_alone(fit):
    def decided(batch, epoch=0):
        columns = [
            (int(image), [None if column is None else column[k].tolist() for column in step.view], int(step.keys[k]))
            for step in plan(ALL, fit, batch, epoch, some_objects())
            for k, image in enumerate(step.indices)
        ]
        return {image: told for image, *told in columns}

    assert decided(4) == decided(4) == decided(7)
    assert decided(4) != decided(4, epoch=1)


def test_results_keep_their_sizes_and_fit_their_buckets():
    whole, view = jittered(SIZES, resolve(replace(ALL, quarter_turns=False)))
    assert torch.equal(view.sizes, whole.sizes)
    assert torch.equal(extents_of(jittered(SIZES, resolve(ALL))[1]), extents_of(whole))
    for step in plan(ALL):
        assert (step.view.sizes.numpy() <= step.bucket).all()
        assert (step.view.sizes.amin(1).numpy()[:, None] == [160, 200]).any(1).all()


def test_buckets_hold_turned_images():
    landscape = np.array([[300, 600]] * 8)
    settings = Data(short_sides=(160,), max_side=320, num_buckets=2, augment=Augment(quarter_turns=True))
    buckets = buckets_for(sizes_in_training(landscape, resolve(settings.augment)), settings, (160,))
    steps = plan_epoch(whole_images(landscape), settings, buckets, batch=2, seed=0, epoch=0)
    assert {tuple(size) for step in steps for size in step.view.sizes.tolist()} == {(160, 320), (320, 160)}


def test_a_box_is_filled_and_images_keep_their_ratio_whichever_way_they_are_turned():
    pieces = Pieces(scale=(0.5, 0.5), quarter_turns=True)
    _, view = jittered([[480, 640]] * 40, pieces, Data(fit="box", short_sides=(300,), max_side=500), box=(300, 500))
    assert view.sizes.tolist() == [[300, 500]] * 40
    box = surround_boxes(matrix(view), torch.tensor([[[0.0, 0.0, 640.0, 480.0]]] * 40))[:, 0]
    sides = box[:, 2:] - box[:, :2]
    odd = view.turns % 2 == 1
    torch.testing.assert_close(sides[~odd], torch.tensor([[200.0, 150.0]]).expand(int((~odd).sum()), 2))
    torch.testing.assert_close(sides[odd], torch.tensor([[112.5, 150.0]]).expand(int(odd.sum()), 2))
    assert 10 < odd.sum() < 30


def detectron2(count, size, box, low, high):
    """Factors and offsets of `ResizeScale` and `FixedSizeCrop`, by the formulas of Detectron2's new baselines."""
    random = np.random.default_rng(1)
    scale = random.uniform(low, high, count)
    factor = np.minimum(box[0] * scale / size[0], box[1] * scale / size[1])
    free = np.maximum(np.stack([size[0] * factor - box[0], size[1] * factor - box[1]], 1), 0)
    return factor, free * random.uniform(0, 1, (count, 2))


def torchvision(count, size, box, low, high):
    """Factors of `ScaleJitter`, by its formula: one draw times what fits the image into the box."""
    drawn = low + np.random.default_rng(2).random(count) * (high - low)
    return drawn * min(box[1] / size[0], box[0] / size[1])


def distance(one, other):
    """Kolmogorov and Smirnov's: the largest difference of the cumulated histograms."""
    places = np.sort(np.concatenate([one, other]))
    first, second = (np.searchsorted(np.sort(part), places, "right") / len(part) for part in (one, other))
    return np.abs(first - second).max()


@pytest.mark.parametrize("size", [(480, 640), (640, 427)])
def test_large_scale_jitter_is_distributed_as_published(size):
    count, box = 4000, (1024, 1024)
    settings = Data(fit="box", short_sides=(1024,), max_side=1024)
    _, view = jittered([size] * count, Pieces(scale=(0.1, 2.0)), settings, box=box)
    left, top, right, bottom = view.windows.numpy().T
    factors = box[1] / (right - left)
    np.testing.assert_allclose(factors, box[0] / (bottom - top), rtol=1e-5)
    expected, offsets = detectron2(count, size, box, 0.1, 2.0)
    assert distance(factors, expected) < 0.04
    assert distance(factors, torchvision(count, size, box, 0.1, 2.0)) < 0.04
    assert distance(top * factors, offsets[:, 0]) < 0.04
    assert distance(left * factors, offsets[:, 1]) < 0.04
    assert (left >= 0).all()
    large = factors > 3  # cut along both axes
    shares = left[large] / (size[1] - (right - left)[large]), top[large] / (size[0] - (bottom - top)[large])
    assert abs(np.corrcoef(*shares)[0, 1]) < 0.1, "rows and columns are drawn apart"
    small = size[1] * factors < box[1]
    assert (left[small] == 0).all(), "what is smaller lies at the top left, padding right and below"


def test_scales_are_drawn_evenly_and_cut_windows_stay_inside():
    whole, view = jittered([(300, 400)] * 3000, Pieces(scale=(0.5, 1.5)))
    factors = 400 / (view.windows[:, 2] - view.windows[:, 0]).numpy()
    assert distance(factors, np.linspace(0.5, 1.5, 3000)) < 0.03
    large = factors > 1
    assert (view.windows[large, :2] >= 0).all()
    assert (view.windows[large, 2:] <= torch.tensor([400.01, 300.01])).all()
    assert torch.equal(whole.sizes, view.sizes)


def test_angles_and_turns_and_flips_are_drawn_evenly():
    _, view = jittered([(300, 400)] * 4000, Pieces(angle=20.0, quarter_turns=True, flip_vertical=0.25))
    assert distance(view.angles.numpy(), np.linspace(-20, 20, 4000)) < 0.03
    assert np.abs(np.bincount(view.turns) - 1000).max() < 100
    assert abs(view.mirrored.float().mean() - 0.25) < 0.02
    centres = (view.windows[:, :2] + view.windows[:, 2:]) / 2
    torch.testing.assert_close(centres, torch.tensor([[200.0, 150.0]]).expand(4000, 2))


def test_a_vertical_flip_exchanges_top_and_bottom():
    whole, view = jittered([(300, 400)] * 30, Pieces(flip_vertical=1.0))
    point = torch.tensor([[[100.0, 30.0]]]).expand(30, 1, 2)
    x, y = move_points(matrix(whole), point)[:, 0].unbind(1)
    torch.testing.assert_close(move_points(matrix(view), point)[:, 0], torch.stack([x, 256 - y], 1))


def test_small_images_at_an_angle_lie_in_the_middle():
    _, view = jittered([(300, 400)] * 50, Pieces(scale=(0.3, 0.6), angle=90.0))
    corners = torch.tensor([[[0.0, 0.0], [400.0, 0.0], [0.0, 300.0], [400.0, 300.0]]]).expand(50, -1, -1)
    torch.testing.assert_close(move_points(matrix(view), corners).mean(1), view.sizes.flip(1) / 2, atol=1e-3, rtol=0)


def boxes_in(count, size, sides, seed=0):
    """Random boxes inside images."""
    random = np.random.default_rng(seed)
    extents = random.uniform(*sides, (count, 2))
    low = random.uniform(0, 1, (count, 2)) * (np.array(size)[::-1] - extents)
    return np.concatenate([low, low + extents], 1)


def test_windows_around_objects_hold_them_whole_where_they_fit():
    around = boxes_in(2000, (300, 400), (5, 290))
    _, view = jittered([(300, 400)] * 2000, Pieces(scale=(1.2, 3.0), whole_objects=1.0), around=around)
    windows = view.windows.numpy().astype(np.float64)
    shown, sides = windows[:, 2:] - windows[:, :2], around[:, 2:] - around[:, :2]
    before, after = around[:, :2] - windows[:, :2], windows[:, 2:] - around[:, 2:]
    fits = shown >= sides
    assert (before[fits] > -1e-3).all()
    assert (after[fits] > -1e-3).all(), "whole"
    assert (before[~fits] < 1e-3).all()
    assert (after[~fits] < 1e-3).all(), "a window that is smaller than the object shows nothing else"
    assert (windows[:, :2] > -1e-3).all()
    assert (windows[:, 2:] < np.array([400, 300]) + 1e-3).all()
    assert 300 < fits.all(1).sum() < 1900
    assert np.std((before / (before + after))[fits]) > 0.2, "they lie anywhere in it"


def test_windows_at_an_angle_hold_objects_whole_away_from_the_edge():
    around = boxes_in(2000, (100, 100), (5, 60)) + 450
    _, view = jittered([(1000, 1000)] * 2000, Pieces(scale=(2.5, 5.0), whole_objects=1.0, angle=180.0), around=around)
    found = surround_boxes(matrix(view), torch.from_numpy(around).float()[:, None])[:, 0]
    assert (found > -0.1).all()
    assert (found < 256.1).all()


def test_as_many_windows_as_told_are_placed_around_objects():
    around = np.array([[10.0, 10.0, 40.0, 40.0]] * 4000)
    shares = []
    for share in (0.0, 0.5, 1.0):
        _, view = jittered([(300, 400)] * 4000, Pieces(scale=(2.0, 2.0), whole_objects=share), around=around)
        shares.append(float((view.windows[:, :2] <= 10).all(1).float().mean()))
    by_chance = shares[0]
    assert by_chance < 0.05
    assert shares[1] == pytest.approx((1 + by_chance) / 2, abs=0.03)
    assert shares[2] == 1


def test_images_without_objects_are_cut_anywhere():
    nothing = np.full((100, 4), np.nan)
    pieces = Pieces(scale=(1.0, 2.0), whole_objects=1.0, angle=5.0)
    _, without = jittered([(300, 400)] * 100, pieces, around=nothing)
    _, plain = jittered([(300, 400)] * 100, pieces)
    assert torch.equal(without.windows, plain.windows)


def test_windows_of_tiles_stay_within_their_frames():
    frames = np.array([[1000, 2000, 1400, 2300]] * 200)
    view = View(torch.from_numpy(frames).float(), torch.tensor([[300, 400]] * 200), torch.zeros(200, dtype=torch.bool))
    keys = image_keys(0, 0, 200)
    around = np.tile([[1010.0, 2010.0, 1030.0, 2030.0], [0.0, 0.0, 30.0, 30.0]], (100, 1))
    pieces = Pieces(scale=(1.0, 2.0), whole_objects=1.0)
    windows = jitter(view, frames, keys, pieces, around=around).windows.numpy()
    assert (windows[:, :2] >= [999.9, 1999.9]).all()
    assert (windows[:, 2:] <= [1400.1, 2300.1]).all()
    assert (windows[::2, :2] <= 1010.1).any(1).all()
    elsewhere = jitter(view, frames, keys, pieces).windows.numpy()
    np.testing.assert_array_equal(windows[1::2], elsewhere[1::2])


def test_every_object_but_crowds_is_drawn_as_often():
    boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    objects = Objects(boxes, np.array([0, 2, 2, 5]))
    drawn = objects.draw(np.repeat([0, 1, 2], 3000), image_keys(0, 0, 9000))
    assert np.isnan(drawn[3000:6000]).all()
    for part, owned in ((drawn[:3000], boxes[:2]), (drawn[6000:], boxes[2:])):
        found, counts = np.unique(part, axis=0, return_counts=True)
        np.testing.assert_array_equal(found, owned)
        assert np.abs(counts / 3000 - 1 / len(owned)).max() < 0.04
