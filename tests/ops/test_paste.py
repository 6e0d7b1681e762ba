import inspect
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskrcnn.masks import rings_from_bitmap
from maskrcnn.ops.paste import paste, paste_outlines, paste_rle, reference
from maskrcnn.ops.paste.logits import LIMIT, between_logits

coco = pytest.importorskip("pycocotools.mask")


def as_rle(masks):
    bitmaps = masks.numpy().astype(np.uint8)
    encoded = [coco.encode(np.asfortranarray(bitmap)) for bitmap in bitmaps]
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in encoded]


def sampled(probabilities, boxes, height, width):
    """The grids at every pixel centre, by torch's own sampler."""
    x = (torch.arange(width) + 0.5 - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * 2 - 1
    y = (torch.arange(height) + 0.5 - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * 2 - 1
    points = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=3)
    return F.grid_sample(probabilities[:, None], points, align_corners=False)[:, 0]


def random_case(seed, coarse):
    """Boxes inside, across and beyond the image, from a hundredth of a pixel up; `coarse` makes ties common."""
    generator = np.random.default_rng(seed)
    cells, height, width = (int(generator.integers(1, limit)) for limit in (9, 40, 50))
    probabilities = generator.random((9, cells, cells), dtype=np.float32)
    low = generator.uniform(-20, 60, (9, 2))
    boxes = np.concatenate([low, low + np.exp(generator.uniform(-5, 4.5, (9, 2)))], axis=1).astype(np.float32)
    if coarse:
        probabilities, boxes = np.round(4 * probabilities) / 4, np.round(boxes)
    return torch.from_numpy(probabilities), torch.from_numpy(boxes), height, width


def test_a_grid_of_pixel_sized_cells_is_its_own_threshold():
    probabilities = torch.tensor([[[0.9, 0.1], [0.5, 0.6]]])
    boxes = torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    masks = paste(probabilities, boxes, height=3, width=5)
    assert masks.int().tolist() == [[[0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]]
    assert paste_rle(probabilities, boxes, height=3, width=5) == as_rle(masks)


def test_between_cells_the_probability_is_linear():
    probabilities = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])  # 1 at x = 2, 0 at x = 6, 0.5 at x = 4
    masks = paste(probabilities, torch.tensor([[0.0, 1.0, 8.0, 5.0]]), height=6, width=9, threshold=0.4)
    assert masks[0, 2].int().tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert masks[0].any(dim=1).int().tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_it_equals_thresholded_grid_sample(seed, threshold):
    probabilities, boxes, height, width = random_case(seed, coarse=False)
    boxes[:, 2:] += 1  # the sampler's own arithmetic is coarse in boxes that are small against their place
    expected = sampled(probabilities, boxes, height, width) >= threshold
    assert torch.equal(paste(probabilities, boxes, height=height, width=width, threshold=threshold), expected)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_kernel_reference_and_run_lengths_agree_in_every_pixel(seed, coarse):
    probabilities, boxes, height, width = random_case(seed, coarse)
    threshold = (0.5, 0.25, 0.7)[seed % 3]
    expected = reference.paste(probabilities, boxes, height, width, threshold)
    masks = paste(probabilities, boxes, height=height, width=width, threshold=threshold)
    assert torch.equal(masks, expected)
    assert paste_rle(probabilities, boxes, height=height, width=width, threshold=threshold) == as_rle(expected)


@pytest.mark.parametrize("seed", range(5))
def test_outlines_are_those_of_the_bitmaps(seed):
    probabilities, boxes, height, width = random_case(seed, coarse=False)
    masks = paste(probabilities, boxes, height=height, width=width, threshold=0.4).numpy()
    outlines = paste_outlines(probabilities, boxes, height=height, width=width, threshold=0.4)
    for mask, found in zip(masks, outlines, strict=True):
        rings = rings_from_bitmap(mask)
        points = [point for outline in found for ring in outline for point in ring.tolist()]
        assert points == rings.points.tolist()
        assert [len(ring) for outline in found for ring in outline] == np.diff(rings.first).tolist()


def test_realistic_masks_equal_pycocotools_to_the_last_run():
    generator = np.random.default_rng(4)
    rows, columns = np.mgrid[:28, :28] / 27 - 0.5
    noise = generator.normal(0, 0.5, (12, 28, 28))
    probabilities = torch.tensor(1 / (1 + np.exp(20 * (np.hypot(rows, columns) - 0.4) + noise)), dtype=torch.float32)
    low, sides = generator.uniform(-30, 200, (12, 2)), np.exp(generator.uniform(2, 5.5, (12, 2)))
    boxes = torch.tensor(np.concatenate([low, low + sides], axis=1), dtype=torch.float32)
    masks = paste(probabilities, boxes, height=240, width=320)
    assert masks.any(dim=2).any(dim=1).sum() >= 10
    assert paste_rle(probabilities, boxes, height=240, width=320) == as_rle(masks)


def test_runs_join_across_columns_and_begin_at_the_first_pixel():
    ones, everywhere = torch.ones(1, 2, 2), torch.tensor([[-9.0, -9.0, 20.0, 20.0]])
    full = np.ones((3, 4), np.uint8, order="F")
    expected = [{"size": [3, 4], "counts": coco.encode(full)["counts"].decode()}]
    assert paste_rle(ones, everywhere, height=3, width=4) == expected


@pytest.mark.parametrize(
    "box",
    [
        [5, 0, 9, 3],
        [-9, 0, -1, 3],
        [0, 4, 3, 9],
        [1, 1, 1, 2],
        [3, 3, 1, 1],
        [0.6, 0.6, 0.9, 0.9],
        [0, 0, math.nan, 2],
        [0, 0, math.inf, 2],
        [0, 0, 1e-40, 1e-40],
    ],
)
def test_boxes_that_hold_no_pixel_give_one_run(box):
    ones, boxes = torch.ones(1, 28, 28), torch.tensor([box], dtype=torch.float32)
    empty = coco.encode(np.zeros((3, 4), np.uint8, order="F"))["counts"].decode()
    assert paste_rle(ones, boxes, height=3, width=4) == [{"size": [3, 4], "counts": empty}]
    assert not reference.paste(ones, boxes, 3, 4, 0.5).any()
    assert not paste(ones, boxes, height=3, width=4).any()


def test_no_detections_give_no_masks():
    none = torch.zeros(0, 28, 28), torch.zeros(0, 4)
    assert paste_rle(*none, height=3, width=4) == paste_outlines(*none, height=3, width=4) == []
    assert paste(*none, height=3, width=4).shape == (0, 3, 4)
    assert reference.paste(*none, 3, 4, 0.5).shape == (0, 3, 4)


def test_arrays_tensors_and_low_precision_are_welcome():
    probabilities, boxes, height, width = random_case(3, coarse=True)
    size = {"height": height, "width": width}
    expected = paste_rle(probabilities, boxes, **size)
    assert paste_rle(probabilities.numpy(), boxes.numpy(), **size) == expected
    assert paste_rle(probabilities.bfloat16().requires_grad_(), boxes, **size) == expected
    assert as_rle(paste(probabilities.half(), boxes, **size)) == expected


def test_each_mask_lies_column_by_column_in_memory():
    probabilities, boxes, height, width = random_case(1, coarse=False)
    masks = paste(probabilities, boxes, height=height, width=width).numpy()
    assert masks[0].flags.f_contiguous


def test_what_cannot_be_pasted_is_refused():
    accept = inspect.unwrap(paste_rle)  # without the tests' own checks of shapes
    grid, box = torch.ones(2, 5, 5), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"received \(2, 5, 3\) and \(2, 4\)"):
        accept(grid[:, :, :3], box, height=3, width=4)
    with pytest.raises(ValueError, match=r"received \(2, 5, 5\) and \(1, 4\)"):
        accept(grid, box[:1], height=3, width=4)
    with pytest.raises(ValueError, match="height=0, width=4"):
        accept(grid, box, height=0, width=4)
    with pytest.raises(ValueError, match="a threshold above 0, received 0"):
        accept(grid, box, height=3, width=4, threshold=0.0)


def test_the_operator_keeps_torchs_contract():
    torch.library.opcheck(torch.ops.maskrcnn.paste.default, (*random_case(2, coarse=False), 0.5))


@pytest.mark.parametrize("implementation", [paste, inspect.unwrap(reference.paste)])
def test_it_traces_as_one_graph(implementation):
    probabilities, boxes, height, width = random_case(6, coarse=False)
    size = {"height": height, "width": width, "threshold": 0.5}
    compiled = torch.compile(lambda *tensors: implementation(*tensors, **size), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(probabilities, boxes), paste(probabilities, boxes, **size))


def between_cells(probabilities, boxes, height, width):
    """Logits at every pixel centre by torch's own sampler, held at the border of the grid; -1 beyond the box."""
    x = (torch.arange(width) + 0.5 - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * 2 - 1
    y = (torch.arange(height) + 0.5 - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * 2 - 1
    points = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=3)
    logits = probabilities.logit().clamp(-LIMIT, LIMIT)[:, None]
    values = F.grid_sample(logits, points, align_corners=False, padding_mode="border")[:, 0]
    return torch.where((points.abs() <= 1).all(dim=3), values, -1.0)


@pytest.mark.parametrize("seed", range(6))
def test_between_logits_an_edge_lies_where_the_interpolated_logit_changes_its_sign(seed):
    generator = np.random.default_rng(seed)
    probabilities = torch.from_numpy(generator.random((9, 7, 7), dtype=np.float32)) ** 3
    low = generator.uniform(-10, 30, (9, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + generator.uniform(9, 40, (9, 2))], axis=1).astype(np.float32))
    expected = between_cells(probabilities, boxes, 40, 50)
    # Inside the ring of outermost centres it is the interpolation; outside, the box cuts what reaches its border.
    side = (boxes[:, 2:] - boxes[:, :2]) / 7
    x, y = torch.arange(50) + 0.5, torch.arange(40) + 0.5
    is_inner = ((x > boxes[:, :1] + side[:, :1] / 2) & (x < boxes[:, 2:3] - side[:, :1] / 2))[:, None, :]
    is_inner = is_inner & ((y > boxes[:, 1:2] + side[:, 1:] / 2) & (y < boxes[:, 3:] - side[:, 1:] / 2))[:, :, None]
    is_clear = expected.abs() > 1e-3
    grids, frames, threshold = between_logits(probabilities, boxes)
    masks = paste(grids, frames, height=40, width=50, threshold=threshold)
    assert torch.equal(masks[is_inner & is_clear], (expected >= 0)[is_inner & is_clear])
    assert not masks[(expected == -1.0) & is_clear].any()
    assert torch.equal(masks, reference.paste(grids, frames, 40, 50, threshold))
    assert paste_rle(grids, frames, height=40, width=50, threshold=threshold) == as_rle(masks)


def test_saturated_cells_hide_an_edge_from_probabilities_but_not_from_logits():
    """A cell that is sure beside one that is hardly against it: the edge is near the latter's centre."""
    logits = torch.tensor([[[9.0, -0.2, -9.0, -9.0]] * 4])
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    of_probabilities = paste(logits.sigmoid(), boxes, height=40, width=60)[0, 20]
    grids, frames, threshold = between_logits(logits.sigmoid(), boxes)
    of_logits = paste(grids, frames, height=40, width=60, threshold=threshold)[0, 20]
    assert of_probabilities.sum() == 14  # 0.5 at 5 + 10 * 0.5 / 0.55
    assert of_logits.sum() == 15  # 0 at 5 + 10 * 9 / 9.2
    unsure = torch.tensor([[[9.0, -2.0, -9.0, -9.0]] * 4])
    grids, frames, _ = between_logits(unsure.sigmoid(), boxes)
    assert paste(unsure.sigmoid(), boxes, height=40, width=60)[0, 20].sum() == 11  # 5 + 10 * 0.5 / 0.88
    assert paste(grids, frames, height=40, width=60, threshold=threshold)[0, 20].sum() == 13  # 5 + 10 * 9 / 11


def test_objects_that_reach_the_border_of_their_grid_fill_their_box_and_no_more_between_logits():
    box, inside = torch.tensor([[3.0, 5.0, 17.0, 12.0]]), torch.zeros(20, 30, dtype=torch.bool)
    inside[5:12, 3:17] = True

    def drawn(probability):
        grids, frames, threshold = between_logits(torch.full((1, 4, 4), probability), box)
        return paste(grids, frames, height=20, width=30, threshold=threshold)[0]

    for probability in (1.0, 0.7):
        assert torch.equal(drawn(probability), inside)
    assert not (drawn(0.5) & ~inside).any()
    assert not drawn(0.0).any()
