"""Data sets in a store are the data sets on disk: copied first, or read image by image ahead of time."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
import torch
from msgspec import structs
from torch.utils._pytree import tree_leaves

from maskrcnn.config import Data
from maskrcnn.data import read_ahead as module
from maskrcnn.data.buckets import buckets_for, plan_epoch, whole_images
from maskrcnn.data.decode import decode, read_image
from maskrcnn.data.loader import Loader
from maskrcnn.data.read_ahead import read_ahead
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.recipes import read_recipe
from maskrcnn.storage.location import at

SETTINGS = Data(short_sides=(48,), max_side=64, num_buckets=1, num_workers=1, prefetch_size=1)
REMOTE = "obs://bucket/shapes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=24, num_val=4, side=64)


@pytest.fixture
def shapes(store, folder):
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(f"shapes/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return folder


def settings(**changes):
    return structs.replace(SETTINGS, **{"dataset_dir": REMOTE, **changes})


def loader_of(data, chosen):
    buckets = buckets_for(data.sizes, chosen, chosen.short_sides)
    return Loader(data, plan_epoch(whole_images(data.sizes), chosen, buckets, batch=4, seed=1, epoch=0), chosen)


def batches(data, chosen):
    return [
        [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)] for batch in loader_of(data, chosen)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("remote", ["copy", "stream"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_are_those_of_the_folder(shapes, remote, split, workers):
    chosen = settings(remote=remote, num_workers=workers)
    there, here = open_split(chosen, split), open_split(structs.replace(SETTINGS, dataset_dir=str(shapes)), split)
    for ours, theirs in zip(batches(there, chosen), batches(here, SETTINGS), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert (str(there.images) == f"{REMOTE}/{split}2017") == (remote == "stream")


def test_parts_may_lie_in_different_places(shapes, tmp_path):
    there = open_split(
        settings(dataset_dir=str(shapes), train_anno_path=f"{REMOTE}/annotations/instances_train2017.json"), "train"
    )
    assert there.images == shapes / "train2017"
    there = open_split(settings(dataset_dir=str(shapes), train_img_dir=f"{REMOTE}/train2017"), "train")
    assert len(list(there.images.glob("*"))) == 24
    assert open_split(settings(dataset_dir=f"file://{shapes}"), "val").images == shapes / "val2017"


def test_annotation_stands_in_for_annotations(store, shapes):
    for (bucket, key), thing in list(store.things.items()):
        if "annotations/" in key:
            store.things[bucket, key.replace("annotations/", "annotation/")] = store.things.pop((bucket, key))
            assert thing
    assert len(open_split(settings(), "val").image_ids) == 4


@pytest.mark.parametrize("remote", ["copy", "stream"])
def test_missing_images_are_told_before_the_first_step(store, shapes, remote):
    keys = sorted(key for _, key in store.things if "train2017/" in key)
    for key in keys[:3]:
        del store.things["bucket", key]
    with pytest.raises(
        FileNotFoundError, match=rf"train2017 lacks {keys[0].rpartition('/')[2]}, .*\(3 of 24 files are"
    ):
        open_split(settings(remote=remote), "train")


def test_a_missing_annotation_file_is_told_with_what_is_there(store, shapes):
    with pytest.raises(
        FileNotFoundError, match=r"annotations/no\.json does not exist; \S+annotations holds instances_"
    ):
        open_split(settings(val_anno_path="annotations/no.json"), "val")


def test_an_image_that_is_gone_or_broken_is_named(store, shapes):
    there = open_split(settings(remote="stream"), "train")
    name = there.file_names[0]
    store.put(f"shapes/train2017/{name}", b"no image")
    with pytest.raises(ValueError, match=rf"the image {REMOTE}/train2017/{name} is not of a known format"):
        decode(there.images / name)
    del store.things["bucket", f"shapes/train2017/{name}"]
    with pytest.raises(FileNotFoundError, match=rf"the image {REMOTE}/train2017/{name} does not exist"):
        decode(there.images / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        batches(there, settings(remote="stream"))
    assert not [one for one in threading.enumerate() if one.name.startswith(("reader", "loader"))]


def test_a_server_that_is_killed_while_images_are_read_is_waited_for(store, shapes):
    there = open_split(settings(remote="stream"), "train")
    expected = batches(there, settings(remote="stream"))
    chosen = settings(remote="stream", read_ahead=4)
    found = []
    for number, batch in enumerate(loader_of(there, chosen)):
        found.append([leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)])
        if number == 1:
            store.kill()
            threading.Timer(0.7, store.start).start()
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_reading_overlaps_with_steps(store, shapes):
    """Each image takes 50 ms to come, 4 a step; a step takes 20 ms, and yet it hardly waits after the first."""
    store.latency = 0.05
    chosen = settings(remote="stream", read_ahead=24)
    loader = loader_of(open_split(chosen, "train"), chosen)
    waits = []
    for _ in loader:
        waits.append(loader.waited_seconds)
        time.sleep(0.02)
    assert waits[-1] - waits[0] < 0.25 * 5 * 4 * 0.05


def test_no_more_is_asked_for_than_is_told(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "read_image", lambda path: asked.append(path))

    class Step:
        indices = np.arange(4)

    class Images:
        images, file_names = at("obs://bucket/x"), ["a", "b", "c", "d"]

    with ThreadPoolExecutor(2) as pool:
        steps = read_ahead.__wrapped__((Step() for _ in count()), Images(), 8, pool)
        next(steps)
    assert len(asked) == 4 + 8 + 4  # the step, those ahead, and the step that went beyond


def test_settings_that_would_have_no_effect_or_tell_a_secret_are_refused():
    with pytest.raises(
        ValueError, match=r"data\.read_ahead: has no effect on images that are copied; set data\.remote=str"
    ):
        read_recipe("coco", ["data.read_ahead=8"])
    for value in ("https://me:PLANTED@host/coco", "https://host/coco?X-Amz-Signature=PLANTED", "s3://K:PLANTED@b/coco"):
        with pytest.raises(ValueError, match=r"data\.dataset_dir: expected an address without a user or") as error:
            read_recipe("coco", [f"data.dataset_dir={value}"])
        assert "PLANTED" not in str(error.value)


def test_there_is_one_door_for_the_bytes_of_images(tmp_path, store, shapes):
    name = next(iter((shapes / "val2017").iterdir()))
    shutil.copy(name, tmp_path / "x y.png")
    expected = name.read_bytes()
    assert read_image(tmp_path / "x y.png") == read_image(at(f"{REMOTE}/val2017/{name.name}")) == expected
