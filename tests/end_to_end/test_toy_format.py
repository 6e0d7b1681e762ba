"""A format is two functions: what it reads can be learnt, evaluated and drawn, and no COCO file is looked for."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from maskrcnn.config import (
    RPN,
    Backbone,
    BoxHead,
    Data,
    Evaluate,
    MaskHead,
    Model,
    Neck,
    Optimizer,
    Recipe,
    Train,
)
from maskrcnn.data.dataset import Dataset, select
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.evaluate import run
from maskrcnn.masks import decimals, rings_from_polygons, signed_areas
from maskrcnn.report.page import write_report
from maskrcnn.runtime.distributed import World
from maskrcnn.train import loop
from maskrcnn.weights import load_weights

RECIPE = Recipe(
    name="toy",
    device="cpu",
    data=Data(dataset_dir="no such folder", short_sides=(64,), max_side=96, num_buckets=1, num_workers=1),
    model=Model(
        backbone=Backbone(kind="resnet18", norm="group_norm", pretrained="", frozen_stages=0, width=8),
        neck=Neck(channels=8),
        rpn=RPN(
            anchor_sizes=(8, 16, 32, 64, 128), num_train_candidates=32, num_train_proposals=16, num_test_proposals=16
        ),
        box_head=BoxHead(hidden=16, num_rois=16, num_detections=5, score_threshold=0.0),
        mask_head=MaskHead(num_convs=1, channels=8, num_rois=8),
    ),
    train=Train(batch=2, max_steps=2, optimizer=Optimizer(kind="adamw", lr=1e-3, lr_batch=2)),
    evaluate=Evaluate(batch=2),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Layers this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(file: Path, images: Path) -> Dataset:
    """Lines of words: `class NAME`, `image NAME HEIGHT WIDTH`, and behind each image its `NAME X Y X Y X Y ...`."""
    classes, names, sizes, owners, labels, polygons = [], [], [], [], [], []
    for kind, *words in map(str.split, file.read_text().splitlines()):
        if kind == "class":
            classes.append(words[0])
        elif kind == "image":
            names.append(words[0])
            sizes.append([int(words[1]), int(words[2])])
        else:
            owners.append(len(names) - 1)
            labels.append(classes.index(kind) + 1)
            polygons.append([float(word) for word in words])
    rings, count = rings_from_polygons(polygons), len(polygons)
    corners = [np.array(polygon, np.float32).reshape(-1, 2) for polygon in polygons]
    return Dataset(
        annotations=file,
        images=images,
        image_ids=np.arange(len(names)),
        file_names=names,
        sizes=np.array(sizes),
        first_object=np.searchsorted(owners, np.arange(len(names) + 1)),
        annotation_ids=np.arange(count),
        labels=np.array(labels),
        boxes=np.array([[*points.min(axis=0), *points.max(axis=0)] for points in corners], np.float32),
        areas=signed_areas(rings),
        crowd=np.zeros(count, bool),
        flags=np.zeros(count, np.uint8),
        rings=rings,
        first_ring=np.arange(count + 1),
        category_ids=tuple(range(1, len(classes) + 1)),
        category_names=tuple(classes),
    )


def write(data: Dataset, file: Path) -> None:
    """The first polygon of every object."""
    lines = [f"class {name}" for name in data.category_names]
    for image, (height, width) in enumerate(data.sizes.tolist()):
        lines.append(f"image {data.file_names[image]} {height} {width}")
        for index in range(*data.first_object[image : image + 2].tolist()):
            rings = data.outline(index)
            numbers = decimals(rings.points[: rings.first[1]]).ravel().tolist()
            lines.append(" ".join([data.category_names[data.labels[index] - 1], *map(str, numbers)]))
    file.write_text("\n".join(lines))


@pytest.fixture
def opened(tmp_path):
    """Reads the splits `train` and `val` of a folder in this format."""
    folder = generate(tmp_path / "shapes", num_train=4, num_val=3, seed=3, side=64)
    for split in ("train", "val"):
        write(open_split(Data(dataset_dir=str(folder)), split), tmp_path / f"{split}.txt")
    for file in (folder / "annotations").iterdir():
        file.unlink()
    return lambda settings, split: read(tmp_path / f"{split}.txt", folder / f"{split}2017")


def test_what_is_written_is_read_again(opened, tmp_path):
    data = opened(RECIPE.data, "train")
    write(data, tmp_path / "again.txt")
    again = read(tmp_path / "again.txt", data.images)
    assert again.rings.points.tolist() == data.rings.points.tolist()
    assert again.labels.tolist() == data.labels.tolist()
    assert again.first_object.tolist() == data.first_object.tolist()


def test_a_format_of_two_functions_is_trained_evaluated_and_drawn(opened, tmp_path):
    out = loop.run(RECIPE, tmp_path / "run", open_split=opened)
    assert (out / "report.html").read_text().count("data:image/jpeg") >= 2
    some = select(opened(RECIPE.data, "val"), np.array([2, 0]))
    metrics = run.run(RECIPE, load_weights(out), tmp_path / "eval", World(torch.device("cpu")), dataset=some)
    assert metrics["speed"]["images"] == 2
    assert {row["id"] for row in metrics["images"]} <= {0, 2}
    report = write_report(tmp_path / "eval", some).read_text()
    assert report.count("data:image/jpeg") >= 2
    assert "no such folder" in write_report(tmp_path / "eval").read_text(), "without the data set there are no pictures"
    assert msgspec.json.decode((tmp_path / "eval/metrics.json").read_bytes())["per_class"][0]["id"] == 1
