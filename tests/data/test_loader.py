import gc
import threading
from itertools import count

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch.utils._pytree import tree_leaves

from maskrcnn.config import Augment, Data
from maskrcnn.data import buckets, loader
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.formats import coco
from maskrcnn.data.oddities import Oddities

SIZES = [(40, 60), (60, 45), (33, 44), (52, 30), (40, 50), (38, 64), (45, 45), (64, 32)]


@pytest.fixture
def data(write_split, annotate):
    rows = [annotate(10 * image + k, image, iscrowd=int(k == 2)) for image in range(1, 9) for k in range(image)]
    return coco.read(*write_split(rows, sizes=SIZES))


def recipe(workers, prefetch=2):
    return Data(num_workers=workers, prefetch_size=prefetch, short_sides=(48, 64), max_side=128, num_buckets=3)


def steps_of(data, settings, batch=4, epoch=0):
    chosen = buckets.buckets_for(data.sizes, settings, settings.short_sides)
    return buckets.plan_epoch(buckets.whole_images(data.sizes), settings, chosen, batch=batch, seed=1, epoch=epoch)


def tensors(batch):
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.bucket == b.bucket
        assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


@pytest.mark.parametrize(("levels", "told"), [("full", 0), ("fixed", 1)])
def test_images_that_no_jpeg_holds_are_told_where_augmentation_would_compress_them(data, levels, told):
    ranges = ((0.0, 200.0),) if levels == "fixed" else ()
    settings = replace(recipe(0), augment=Augment(strength="strong"), levels=levels, level_range=ranges)
    made = loader.Loader(data, steps_of(data, settings)[:1], settings)
    list(made)
    notes = list(made.oddities.notes())
    assert len(notes) == told
    assert all("levels are mapped, as with 3 more; no JPEG holds that, so data.augment.jpeg" in note for note in notes)


def test_a_batch_holds_pictures_side_by_side_and_says_which_they_are(data):
    steps = steps_of(data, recipe(0))
    for step, batch in zip(steps, loader.Loader(data, steps, recipe(0)), strict=True):
        assert batch.image_ids.tolist() == (step.indices + 1).tolist()
        assert batch.images.shape == (4, *data.sizes[step.indices].max(axis=0), 3)
        for slot, index in enumerate(step.indices):
            height, width = SIZES[index]
            noise = np.random.default_rng(index + 1).integers(0, 256, (height, width, 3), np.uint8)
            np.testing.assert_array_equal(batch.images[slot, :height, :width], noise)
            assert batch.images[slot, height:].sum() == batch.images[slot, :, width:].sum() == 0
            assert batch.raw_sizes[slot].tolist() == batch.original_sizes[slot].tolist() == [height, width]
        assert torch.equal(batch.keys, torch.from_numpy(step.keys))
        assert torch.equal(batch.indices, torch.from_numpy(step.indices))


def test_threads_change_nothing(data):
    settings = recipe(0)
    plain = list(loader.Loader(data, steps_of(data, settings), settings))
    for workers in (1, 3):
        threaded = loader.Loader(data, steps_of(data, settings), recipe(workers))
        assert_same(plain, list(threaded))
        assert threaded.waited_seconds > 0
    assert not loader_threads()


def test_processes_and_micro_batches_share_each_step(data):
    steps = steps_of(data, recipe(0))
    whole = list(loader.Loader(data, steps, recipe(0)))
    ids = [
        [
            batch.image_ids.tolist()
            for batch in loader.Loader(data, steps, recipe(0), rank=r, world_size=2, micro_batch=1)
        ]
        for r in range(2)
    ]
    for number, batch in enumerate(whole):
        parts = ids[0][2 * number : 2 * number + 2] + ids[1][2 * number : 2 * number + 2]
        assert [id for part in parts for id in part] == batch.image_ids.tolist()


def test_uneven_shares_hold_each_image_of_a_step_once_and_in_its_order(data):
    steps = steps_of(data, recipe(0))  # of four images
    shares = [list(loader.Loader(data, steps, recipe(0), rank=rank, world_size=3)) for rank in range(3)]
    for step, *parts in zip(steps, *shares, strict=True):
        assert [len(part.keys) for part in parts] == [1, 1, 2]
        assert torch.cat([part.indices for part in parts]).tolist() == step.indices.tolist()


def test_a_resumed_loader_goes_on_without_reading_what_it_skips(data):
    steps = steps_of(data, recipe(0), batch=2)
    rest = list(loader.Loader(data, steps, recipe(0)))[2:]
    for index in set(np.concatenate([step.indices for step in steps[:2]])):
        (data.images / data.file_names[index]).unlink()
    assert_same(rest, list(loader.Loader(data, steps, recipe(2), start=2)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_stops_the_loop_with_its_name(data, workers):
    (data.images / "5.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"5\.png .*restore or remove it"):
        list(loader.Loader(data, steps_of(data, recipe(0)), recipe(workers)))
    gc.collect()
    assert not loader_threads()


def test_a_broken_picture_becomes_a_black_one_without_objects_where_it_may_be_skipped(data):
    (data.images / "5.png").write_bytes(b"not a picture")
    (data.images / "6.png").unlink()
    made = [
        list(loader.Loader(data, steps_of(data, recipe(0)), recipe(workers), skip=True, world_size=size, rank=0))
        for workers, size in ((0, 1), (2, 1), (0, 2))
    ]
    assert_same(made[0], made[1])
    assert [[name for name, _ in batch.unread] for batch in made[0]] == [[n for n, _ in b.unread] for b in made[1]]
    assert sorted(name for batch in made[0] for name, _ in batch.unread) == ["5.png", "6.png"]
    targets = AnnotationStore(data, torch.device("cpu"))
    for batch, half in zip(made[0], made[2], strict=True):
        assert torch.equal(batch.indices[:2], half.indices)
        skipped = batch.indices == len(data.image_ids)
        assert sorted(batch.image_ids[skipped].tolist()) == sorted(int(name[0]) for name, _ in batch.unread)
        assert not batch.images[skipped].any()
        valid = targets.gather(batch.indices, targets.padding(batch.indices.numpy())).valid
        assert valid[~skipped].any(dim=1).all()
        assert not valid[skipped].any()


def test_leaving_the_loop_ends_the_threads_and_prefetching_is_bounded(data):
    settings = recipe(2, prefetch=3)
    taken = []

    def endless():
        for epoch in count():
            for step in steps_of(data, settings, epoch=epoch):
                taken.append(step)
                yield step

    for number, _ in enumerate(loader.Loader(data, endless(), settings), 1):
        assert len(taken) <= number + 6
        if number == 10:
            break
    gc.collect()
    assert not loader_threads()


def test_real_photos_fill_batches_at_the_stated_sizes(shared_data):
    split = coco.find_split(shared_data / "coco_mini", "val2017", "annotations/instances_val2017.json")
    data, settings = coco.read(*split), Data(num_workers=2)
    chosen = buckets.buckets_for(data.sizes, settings, settings.short_sides)
    steps = buckets.plan_evaluation(buckets.whole_images(data.sizes), settings, chosen, batch=8)[:4]
    for batch in loader.Loader(data, steps, settings):
        assert torch.equal(batch.raw_sizes, batch.original_sizes)


@pytest.mark.parametrize("workers", [0, 2])
def test_dim_images_are_met_once_over_all_epochs(data, workers):
    for name in data.file_names[:3]:
        size = Image.open(data.images / name).size[::-1]
        Image.fromarray(np.full(size, 4000, np.uint16)).save(data.images / name, "PNG")
    oddities, notes = Oddities(), []
    for epoch in range(2):
        for _ in loader.Loader(data, steps_of(data, recipe(workers), epoch=epoch), recipe(workers), oddities=oddities):
            pass
        notes += oddities.notes()
    (note,) = notes
    assert note.startswith(f"{data.images / data.file_names[0]} uses 6 % of its 16 bits")
    assert "as with 2 more" in note
