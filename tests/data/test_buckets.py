import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from maskrcnn.config import Data
from maskrcnn.data import buckets, keys
from maskrcnn.data.formats import coco
from maskrcnn.ops.resize import resize
from maskrcnn.view import View

SIZES = np.array([[480, 640], [640, 480], [426, 640], [500, 500], [333, 500], [640, 427], [375, 500]] * 7)
RECIPE = Data(short_sides=(160, 200), max_side=320, num_buckets=4)
BUCKETS = buckets.buckets_for(SIZES, RECIPE, RECIPE.short_sides)


def plan(epoch=0, seed=5, batch=4, sizes=SIZES):
    return buckets.plan_epoch(buckets.whole_images(sizes), RECIPE, BUCKETS, batch=batch, seed=seed, epoch=epoch)


def flat(steps):
    return [(step.bucket, *(column.tolist() for column in columns(step))) for step in steps]


def columns(step):
    return step.indices, step.view.sizes, step.view.mirrored, step.view.windows, step.keys


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (800, 1067)),  # 1066.67
        ((640, 480), (1067, 800)),
        ((426, 640), (800, 1202)),  # 1201.88
        ((300, 900), (444, 1333)),  # limited by the longer side: 444.33
        ((5, 5000), (1, 1333)),
        ((800, 800), (800, 800)),
    ],
)
def test_resized_sizes_keep_the_ratio_below_the_longest_side(size, resized):
    assert buckets.resized_size(*size, 800, 1333) == resized


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (800, 1066)),
        ((333, 500), (800, 1201)),
        ((427, 640), (800, 1199)),
        ((300, 900), (444, 1333)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_sizes_rounded_down_are_those_of_torchvision(size, resized):
    assert buckets.resized_size(*size, 800, 1333, "down") == resized


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (768, 1024)),
        ((640, 480), (768, 576)),  # the other way round it would be 1024 x 768
        ((400, 800), (640, 1280)),
        ((800, 400), (768, 384)),
        ((1600, 2000), (768, 960)),
        ((512, 333), (768, 500)),  # 499.5, and 502.5 below: halves become even
        ((512, 335), (768, 502)),
        ((5000, 1), (768, 1)),
    ],
)
def test_a_box_has_the_same_sides_for_pictures_of_either_orientation(size, resized):
    assert buckets.resized_size(*size, 768, 1280, fit="box") == resized


def test_a_box_rounds_down_where_told():
    assert buckets.resized_size(427, 640, 768, 1280, "nearest", "box") == (768, 1151)  # 1151.1
    assert buckets.resized_size(425, 640, 768, 1280, "nearest", "box") == (768, 1157)  # 1156.5, made even
    assert buckets.resized_size(425, 640, 768, 1280, "down", "box") == (768, 1156)


def test_all_pictures_that_are_fitted_into_a_box_are_padded_to_it():
    recipe = replace(RECIPE, fit="box", short_sides=(100, 130))
    chosen = buckets.buckets_for(SIZES, recipe, recipe.short_sides)
    assert chosen == [(160, 320)]
    for steps in (
        buckets.plan_epoch(buckets.whole_images(SIZES), recipe, chosen, batch=4, seed=5, epoch=0),
        buckets.plan_evaluation(buckets.whole_images(SIZES), recipe, chosen, batch=4),
    ):
        assert {step.bucket for step in steps} == {(160, 320)}
        seen = {tuple(size) for step in steps for size in step.view.sizes.tolist()}
        assert all(height in (100, 130) and width <= 320 for height, width in seen)
    assert (130, 98) in seen  # 640 x 480: 97.5, made even


def test_a_box_scales_height_and_width_by_exactly_the_same():
    sizes = np.array([[427, 640], [640, 480], [512, 333]])
    view = buckets.whole_views(sizes, np.full(3, 768), Data(fit="box", short_sides=(768,), max_side=1280))
    assert view.sizes.tolist() == [[768, 1151], [768, 576], [768, 500]]
    scale = 768 / sizes[:, 0]
    assert view.windows[:2, 2:].tolist() == pytest.approx(np.array([[1151 / scale[0], 427], [480, 640]]))
    assert view.windows[2].tolist() == pytest.approx([0, 0, 333 + 0.499 / 1.5, 512])  # 500 pixels would show 333.33
    ones = torch.ones(1, 512, 333, 3, dtype=torch.uint8)
    last = View(*(None if column is None else column[2:] for column in view))
    pixels = resize(ones, torch.tensor([[512, 333]]), last, bucket=(768, 512), mean=(0,) * 3, std=(1,) * 3)
    assert pixels[0, 0, :, :500].min() == pytest.approx(1)  # no sample lies beyond the picture


def test_two_groups_of_sizes_get_a_bucket_each_and_one_covers_all():
    sizes = np.array([[90, 150], [96, 160], [150, 90]])
    assert buckets.choose_buckets(sizes, 3) == [(96, 160), (160, 96), (160, 160)]
    assert buckets.choose_buckets(sizes, 1) == [(160, 160)]
    assert buckets.choose_buckets(sizes, 2) == [(96, 160), (160, 160)]


def test_one_size_needs_one_bucket():
    assert buckets.choose_buckets(np.array([[256, 200]] * 5), 6) == [(256, 224)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=40), st.integers(1, 7))
def test_buckets_cover_every_size_and_do_not_depend_on_the_order(sizes, number):
    sizes = np.array(sizes)
    chosen = buckets.choose_buckets(sizes, number)
    assert 1 <= len(chosen) <= number
    assert chosen == buckets.choose_buckets(sizes[::-1], number)
    index = buckets.assign(sizes, chosen)
    assert (np.array(chosen)[index] >= sizes).all()
    assert (np.array(chosen) % 32 == 0).all()
    assert (np.array(chosen[-1]) >= sizes.max(axis=0)).all()


def test_thousands_of_distinct_sizes_are_handled():
    sizes = np.random.default_rng(0).integers(32, 4000, (5000, 2))
    chosen = buckets.choose_buckets(sizes, 6)
    area = np.prod(np.array(chosen)[buckets.assign(sizes, chosen)], axis=1).mean()
    assert area < 0.6 * np.prod(chosen[-1])


def test_a_size_that_no_bucket_holds_is_named():
    with pytest.raises(ValueError, match=r"holds 64 x 97"):
        buckets.assign(np.array([[32, 32], [64, 97]]), [(64, 96), (96, 64)])


@pytest.mark.parametrize("batch", [1, 3, 4, 16, 49, 50, 120])
def test_every_batch_is_full_and_every_image_used(batch):
    steps = plan(batch=batch)
    assert len(steps) == -(-len(SIZES) // batch)
    assert all(len(column) == batch for step in steps for column in columns(step))
    used, times = np.unique(np.concatenate([step.indices for step in steps]), return_counts=True)
    assert len(used) == len(SIZES)
    assert times.sum() - len(SIZES) < batch


def test_every_image_fits_its_bucket_and_keeps_its_ratio():
    for step in plan():
        sizes = step.view.sizes.numpy()
        assert (sizes <= step.bucket).all()
        assert step.bucket in BUCKETS
        assert set(sizes.min(axis=1)) <= {160, 200}
        assert step.view.windows.tolist() == [[0, 0, width, height] for height, width in SIZES[step.indices]]
        np.testing.assert_allclose(sizes[:, 0] / sizes[:, 1], np.divide(*SIZES[step.indices].T), rtol=0.01)


def test_a_plan_is_a_function_of_seed_and_epoch():
    assert flat(plan(epoch=3)) == flat(plan(epoch=3))
    assert flat(plan(epoch=3)) != flat(plan(epoch=4))
    assert flat(plan(seed=5)) != flat(plan(seed=6))


def test_what_chance_decides_for_an_image_does_not_depend_on_the_batch():
    def decided(batch):
        return {
            int(index): (size.tolist(), bool(flip), window.tolist(), int(key))
            for step in plan(batch=batch)
            for index, size, flip, window, key in zip(*columns(step), strict=True)
        }

    assert decided(4) == decided(7)


def test_short_sides_and_flips_are_drawn_evenly():
    sizes = np.full((4000, 2), 100)
    recipe = Data(short_sides=(32, 64, 96, 128), flip=0.25, max_side=999)
    steps = buckets.plan_epoch(buckets.whole_images(sizes), recipe, [(128, 128)], batch=4000, seed=1, epoch=0)
    counts = np.unique(steps[0].view.sizes[:, 0], return_counts=True)[1]
    assert np.abs(counts - 1000).max() < 100
    assert abs(steps[0].view.mirrored.float().mean() - 0.25) < 0.025
    assert len(np.unique(steps[0].keys)) == 4000
    assert (steps[0].keys >= 0).all()


def test_keys_do_not_change_between_versions():
    """Resumed runs rely on them; SplitMix64 of 0 starts with 0xE220A8397B1DCDAF."""
    assert keys._mix(np.zeros(1, np.uint64))[0] == 0xE220A8397B1DCDAF
    assert keys.image_keys(1234, 7, 3).tolist() == [5583966373742207708, 6431404980839762189, 4033513080597281419]


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_visits_every_image_exactly_once(batch, world_size):
    steps = buckets.plan_evaluation(buckets.whole_images(SIZES), RECIPE, BUCKETS, batch=batch)
    shards = [steps[rank::world_size] for rank in range(world_size)]
    seen = np.concatenate([step.indices for shard in shards for step in shard])
    assert sorted(seen) == list(range(len(SIZES)))
    assert all(len(step.indices) == batch for step in steps[:-1])
    assert all((step.view.sizes.amin(1) == 200).all() and not step.view.mirrored.any() for step in steps)


def test_six_buckets_need_nine_tenths_of_full_padding_on_real_photos(shared_data):
    split = coco.find_split(shared_data / "coco_mini", "train2017", "annotations/instances_train2017.json")
    data = coco.read(*split)
    recipe = Data()
    chosen = buckets.buckets_for(data.sizes, recipe, recipe.short_sides)
    resized = buckets.resized_sizes(data.sizes, np.full(len(data.sizes), 800), 1333)
    area = np.prod(np.array(chosen)[buckets.assign(resized, chosen)], axis=1).mean()
    assert len(chosen) == 6
    assert area / (800 * 1344) < 0.90


def test_a_sample_is_a_window_of_its_image_and_may_come_more_than_once():
    whole = buckets.whole_images(np.array([[480, 640], [300, 700]]))
    assert (whole.windows.tolist(), whole.sizes.tolist()) == (
        [[0, 0, 640, 480], [0, 0, 700, 300]],
        [[480, 640], [300, 700]],
    )
    parts = buckets.Samples(np.array([1, 0, 1]), np.array([[10, 20, 110, 100], [0, 0, 640, 480], [600, 0, 700, 80]]))
    samples = parts.take(np.array([0, 1, 2, 2]))
    (step,) = buckets.plan_evaluation(samples, RECIPE, [(320, 320)], batch=4)
    order = step.indices.argsort(kind="stable")  # the plan sorts by shape
    assert step.indices[order].tolist() == [0, 1, 1, 1]
    assert step.view.windows[order].tolist() == [[0, 0, 640, 480], [10, 20, 110, 100], *[[600, 0, 700, 80]] * 2]
    assert step.view.sizes[order].tolist() == [[200, 267], *[[200, 250]] * 3]
    assert len(set(step.keys.tolist())) == 4
