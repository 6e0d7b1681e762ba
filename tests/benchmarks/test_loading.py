"""The benchmark of loading runs, and both sides make the same batches."""

import pytest
import torch
from msgspec import structs

pytest.importorskip("torchvision", reason="the peer, torchvision, is not installed")
pytest.importorskip("pycocotools", reason="the peer, pycocotools, is not installed")

from maskrcnn.config import Data
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split

SMALL = {"short_sides": (96,), "max_side": 120, "num_buckets": 2, "num_workers": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=8, num_val=0, side=64)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_both_sides_make_the_same_pictures_boxes_and_masks(benchmark, folder, flip):
    settings = Data(**SMALL, flip=flip, antialias=False, rounding="down")  # torchvision's way
    data = open_split(structs.replace(settings, dataset_dir=str(folder)), "train")
    steps = benchmark.plan(data, settings, 2, 4)
    pairs = zip(*(make(data, steps, settings) for make in benchmark.RIVALS.values()), strict=True)
    for ours, (images, targets) in pairs:
        sizes = [tuple(size) for size in ours.images.sizes.int().tolist()]
        assert images.image_sizes == sizes
        for slot, ((height, width), target) in enumerate(zip(sizes, targets, strict=True)):
            mine, theirs = (pixels[slot, :, :height, :width] for pixels in (ours.images.pixels, images.tensors))
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=0)
            learnt = ours.targets.valid[slot] & ~ours.targets.crowd[slot]
            torch.testing.assert_close(ours.targets.boxes[slot][learnt], target["boxes"], atol=1e-3, rtol=0)
            outlines = torch.stack([area(ours.targets, slot, int(one)) for one in learnt.nonzero()[:, 0]])
            torch.testing.assert_close(outlines, target["masks"].sum(dim=(1, 2)).float(), atol=30, rtol=0.1)


def area(targets, slot, one):
    """Square pixels that directed edges enclose, whichever way a flip has turned them."""
    first, last = targets.first_edge[slot, one], targets.first_edge[slot, one + 1]
    x1, y1, x2, y2 = targets.edges[slot, first:last].T
    return 0.5 * (x1 * y2 - x2 * y1).sum().abs()


def test_it_runs_in_tiny_form(benchmark, folder):
    speeds, memory = benchmark.run(folder, Data(**SMALL), count=2, repeats=1, samples=(4, 8))
    assert all(row["ratio"] > 0 for row in speeds.rows)
    assert [row["samples drawn"] for row in memory.rows] == [4, 8]
