"""Tar shards say what the folder says that they were written from, and train as it does."""

import io
import json
import os
import tarfile
from dataclasses import fields

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from maskrcnn.config import Data
from maskrcnn.data.annotations import annotation_cache
from maskrcnn.data.convert import convert_data
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import read_image
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import kept, shards
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.recognise import recognise
from maskrcnn.data.split import open_split, read_parts

RLE = {"size": [40, 60], "counts": [500, 13, 27, 13, 1847]}


def png(size=(40, 60), seed=1):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def put(path, members):
    """Write a tar of members by name; what is no bytes is written as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def thing(category="cup", **more):
    return {"category": category, "bbox": [10, 5, 20, 20], "segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]], **more}


def image(*objects, **more):
    return {"width": 60, "height": 40, "annotations": list(objects), **more}


def read_all(root, wanted="auto"):
    """(data, faults) of the only split."""
    (source,) = recognise(root, wanted).sources
    faults = Faults()
    return shards.read(source, faults), faults


def kinds(faults):
    return [fault.kind.name for fault in faults]


def same(one: Dataset, other: Dataset, *but: str) -> list[str]:
    """Columns that differ."""
    found = []
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "rings":
            is_same = np.array_equal(mine.points, theirs.points) and np.array_equal(mine.first, theirs.first)
        elif isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
            is_same = mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()
        else:
            is_same = field.name == "images" or mine == theirs
        found += [] if is_same or field.name in but else [field.name]
    return found


def strange_coco(folder):
    """A COCO set with everything that an object can have, on images with unusual names."""
    objects = [
        {"category_id": 3, "segmentation": RLE, "bbox": [20.25, 3.5, 10, 12], "iscrowd": 0, "area": 99.5},
        {"category_id": 7, "segmentation": RLE, "bbox": [1, 2, 3, 4.125], "iscrowd": 1, "area": 12},
        {"category_id": 7, "segmentation": [], "bbox": [5, 5, 10, 10], "iscrowd": 0, "occluded": True},
        {
            "category_id": 3,
            "segmentation": [[1.1, 2.2, 9.9, 2, 5, 8.7], [20, 20, 30.5, 20, 30, 30]],
            "bbox": [1.1, 2, 29.4, 28],
            "keypoints": [3, 4, 2, 5, 6.5, 1],
            "num_keypoints": 2,
        },
    ]
    names = ["a.v1.png", "sub/b.png", "c.png"]
    (folder / "images/sub").mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / "images" / name).write_bytes(png(seed=number))
    rows = [{"id": 70 + n, "image_id": 40 if n < 3 else 20, **one} for n, one in enumerate(objects)]
    images = [{"id": 40 - 20 * n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(names)]
    categories = [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"]}, {"id": 7, "name": "cup"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content, separators=(",", ":")))
    return Data(dataset_dir=str(folder), format="coco")


@pytest.fixture
def coco(tmp_path):
    return strange_coco(tmp_path / "coco")


def test_every_column_comes_back_to_its_last_bit(coco, tmp_path):
    assert list(convert_data(coco, "shards", tmp_path / "tars", 2))
    before, after = open_split(coco, "all"), open_split(Data(dataset_dir=str(tmp_path / "tars")), "all")
    assert same(after, before, "annotations", "file_names", "remarks") == []
    names = ["data-0000.tar/a_v1.png", "data-0000.tar/sub/b.png", "data-0001.tar/c.png"]
    assert list(after.file_names) == names
    for old, new in zip(before.file_names, names, strict=True):
        assert read_image(after.images / new) == read_image(before.images / old)


def test_what_is_written_is_the_layout_of_webdataset(coco, tmp_path):
    told = list(convert_data(coco, "shards", tmp_path / "tars"))
    assert "lost: 1 image gets another name: a.v1.png becomes a_v1.png" in told
    with tarfile.open(tmp_path / "tars/data-0000.tar") as tar:
        expected = ["a_v1.png", "a_v1.json", "sub/b.png", "sub/b.json", "c.png", "c.json"]
        assert tar.getnames() == expected
        first = json.load(tar.extractfile("a_v1.json"))
    assert (first["id"], first["width"], first["height"], len(first["annotations"])) == (40, 60, 40, 3)
    assert first["annotations"][0]["category"] == "cat"
    assert first["annotations"][0]["segmentation"]["size"] == [40, 60]
    listed = json.loads((tmp_path / "tars/dataset.json").read_text())
    assert listed == {"categories": [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"]}, {"id": 7, "name": "cup"}]}


def test_the_same_data_are_the_same_bytes(coco, tmp_path):
    for name in ("one", "two"):
        assert list(convert_data(coco, "shards", tmp_path / name))
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_shards_become_any_other_format(coco, tmp_path):
    assert list(convert_data(coco, "shards", tmp_path / "tars"))
    assert list(convert_data(Data(dataset_dir=str(tmp_path / "tars")), "coco", tmp_path / "back"))
    before, after = open_split(coco, "all"), open_split(Data(dataset_dir=str(tmp_path / "back")), "all")
    assert same(after, before, "annotations", "file_names", "remarks", "areas") == []


def test_splits_are_told_by_the_names_of_tars_or_of_folders(tmp_path):
    one = {"1.png": png(), "1.json": image(thing())}
    for name in ("a/train-0000.tar", "a/train-0001.tar", "a/val-0.tar", "b/train/0.tar", "b/val/0.tar"):
        put(tmp_path / name, one)
    for root, number in (("a", 2), ("b", 1)):
        splits, _ = read_parts(Data(dataset_dir=str(tmp_path / root)))
        assert {part: len(data.image_ids) for part, data in splits.items()} == {"train": number, "val": 1}


def test_a_tar_a_range_and_a_pattern_are_data_sets(tmp_path):
    for number in range(12):
        put(tmp_path / f"x/part-{number:02d}.tar", {f"{number}.png": png(), f"{number}.json": image(thing())})
    found = {
        name: open_split(Data(dataset_dir=str(tmp_path / "x" / name)), "all").file_names
        for name in ("part-03.tar", "part-{08..10}.tar", "part-*.tar")
    }
    assert list(found["part-03.tar"]) == ["part-03.tar/3.png"]
    assert list(found["part-{08..10}.tar"]) == ["part-08.tar/8.png", "part-09.tar/9.png", "part-10.tar/10.png"]
    assert len(found["part-*.tar"]) == 12
    with pytest.raises(FileNotFoundError, match=r"lacks part-12\.tar, part-13\.tar; complete or correct the name"):
        recognise(tmp_path / "x/part-{10..13}.tar")
    with pytest.raises(ValueError, match="expected a range that rises"):
        recognise(tmp_path / "x/part-{13..10}.tar")


def test_a_tar_of_another_format_is_unpacked_as_before(tmp_path, coco, new_cache):
    assert list(convert_data(coco, "labelme", tmp_path / "labelme"))
    with tarfile.open(tmp_path / "l.tar", "w") as tar:
        tar.add(tmp_path / "labelme", "labelme")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        tar.add(tmp_path / "coco", "coco")
    assert [recognise(tmp_path / name).format for name in ("l.tar", "c.tar")] == ["labelme", "coco"]
    assert len(list((new_cache / "archives").glob("*/*.tar"))) == 2


def test_coco_in_a_folder_goes_before_tars_beside_it(coco, tmp_path):
    put(tmp_path / "coco/train-0.tar", {"1.png": png(), "1.json": image(thing())})
    found = recognise(tmp_path / "coco")
    assert (found.format, "tar shards is there too" in str(found)) == ("coco", True)


def test_hand_made_shards_need_no_list_no_ids_and_no_sizes(tmp_path):
    members = {
        "dog.1.png": png(),  # the stem ends at the first dot: an image of `dog` would be `dog.png`
        "a.png": png(),
        "a.json": {"annotations": [thing("dog", id=1), thing("ant", id=2)]},
        "a.mask.png": png(),
        "b.JPG": png(),
        "b.json": {"annotations": [thing("dog", id=1)]},
    }
    data, faults = read_all(put(tmp_path / "x.tar", members))
    assert list(data.file_names) == ["x.tar/a.png", "x.tar/b.JPG"]
    assert data.category_names == ("ant", "dog")
    assert (data.image_ids.tolist(), data.annotation_ids.tolist()) == ([1, 2], [1, 2, 3])
    assert data.sizes.tolist() == [[40, 60], [40, 60]]
    assert sorted(kinds(faults)) == ["no-area", "size-from-picture"]


def test_what_cannot_be_used_is_told_and_left_out(tmp_path):
    members = {
        "a.png": png(),
        "a.json": image(thing(), thing(None), {"bbox": [1, 2, 3, 4]}),
        "b.png": png(),
        "b.json": b"{",
        "c.png": png(),
        "c.jpg": png(),
        "c.json": image(thing()),
        "d.json": image(thing()),
        "e.png": png(),
        "f.png": png(),
        "f.json": b'{"annotations": ' + b"[" * 100_000,
        "g.png": png(),
        "g.json": {"annotations": [3]},
    }
    data, faults = read_all(put(tmp_path / "x.tar", members))
    assert (list(data.file_names), len(data.labels)) == (["x.tar/a.png"], 1)
    counts = {fault.kind.name: fault.count for fault in faults}
    assert counts == {
        "no-area": 1,
        "shard-no-category": 2,
        "shard-json": 3,
        "shard-several-images": 1,
        "shard-no-image": 1,
        "shard-no-json": 1,
    }
    with pytest.raises(ValueError, match=r"x\.tar/b\.json cannot be read"):
        open_split(Data(dataset_dir=str(tmp_path / "x.tar")), "all")


def test_a_list_of_categories_that_is_none_is_told(tmp_path):
    put(tmp_path / "x/x.tar", {"a.png": png(), "a.json": image(thing())})
    for text in ("[]", '{"categories": [{"id": "1", "name": "a"}]}', "{", '{"categories": 3}'):
        (tmp_path / "x/dataset.json").write_text(text)
        with pytest.raises(ValueError, match=r"dataset\.json: expected .*correct or remove it"):
            read_all(tmp_path / "x")


def test_a_damaged_tar_among_shards_is_named(tmp_path):
    for name in ("0", "1"):
        put(tmp_path / f"x/{name}.tar", {f"{name}.png": png(), f"{name}.json": image(thing())})
    whole = (tmp_path / "x/1.tar").read_bytes()
    (tmp_path / "x/1.tar").write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"1\.tar is cut off or damaged"):
        read_all(tmp_path / "x")


def test_what_was_read_is_kept_for_other_processes(coco, tmp_path, new_cache, monkeypatch):
    assert list(convert_data(coco, "shards", tmp_path / "tars"))
    for path in (tmp_path / "tars").iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr(kept, "SETTLED", 0)
    monkeypatch.setattr(annotation_cache, "SMALL", 0)
    (source,) = shards.find(Folder(tmp_path / "tars"))
    before = shards.read(source, Faults())
    monkeypatch.setattr(shards, "_read", None)
    assert same(shards.read(source, Faults()), before) == []


def test_a_number_of_images_for_another_format_is_refused(coco, tmp_path):
    with pytest.raises(ValueError, match="--shard-size has no effect with --to yolo"):
        list(convert_data(coco, "yolo", tmp_path / "out", 5))


def test_a_split_file_and_set_apart_images_work_on_shards(tmp_path):
    members = {}
    for number in range(10):
        members |= {f"{number}.png": png(seed=number), f"{number}.json": image(thing())}
    put(tmp_path / "x/x.tar", members)
    settings = Data(dataset_dir=str(tmp_path / "x"))
    train, val = (set(open_split(settings, part).file_names) for part in ("train", "val"))
    assert (len(train), len(val), train & val) == (8, 2, set())
    assert len(open_split(structs.replace(settings, val_share=0.5), "val").file_names) == 5
