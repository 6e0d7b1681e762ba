"""The GPU kernels give the pixels of the reference and the run lengths of the CPU, all of them."""

import math

import numpy as np
import pytest
import torch

from maskrcnn.masks import string_from_counts, strings_from_counts
from maskrcnn.ops.paste import cpu, paste_rle, reference


@pytest.fixture
def kernels(gpu):
    """Asserts that bitmaps equal the reference and run lengths those of the CPU, and returns the bitmaps."""
    from maskrcnn.ops.paste import triton

    def compare(probabilities, boxes, height, width, threshold=0.5):
        case = probabilities.to(gpu), boxes.to(gpu), height, width, threshold
        masks = triton.paste(*case)
        assert (masks.shape, masks.dtype, masks.device) == ((len(boxes), height, width), torch.bool, case[0].device)
        assert masks.is_contiguous()
        assert torch.equal(masks, reference.paste(*case))
        expected = cpu.paste_runs(probabilities.numpy(), boxes.numpy(), height, width, threshold)
        for found, runs in zip(triton.paste_runs(*case), expected, strict=True):
            assert np.array_equal(found.cpu().numpy(), runs)
        return masks.cpu()

    return compare


@pytest.fixture
def runs(gpu):
    """The run lengths of each mask, as lists."""
    from maskrcnn.ops.paste import triton

    def lists(probabilities, boxes, height, width):
        case = torch.tensor(probabilities).to(gpu), torch.tensor(boxes, dtype=torch.float32).to(gpu)
        counts, stops = triton.paste_runs(*case, height, width, 0.5)
        assert (counts.device, stops.device.type) == (case[0].device, "cpu")
        return [part.tolist() for part in counts.cpu().tensor_split(stops[:-1])]

    return lists


def random_case(seed, cells, height, width, *, num_boxes=4, coarse=False):
    """Boxes inside, across and beyond the image, from a hundredth of a pixel up; `coarse` makes ties common."""
    random = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(num_boxes, cells, cells, generator=random)
    low = torch.rand(num_boxes, 2, generator=random) * torch.tensor([width, height]) * 1.4 - 10
    sides = torch.exp(torch.rand(num_boxes, 2, generator=random) * (5 + math.log(width)) - 5)
    boxes = torch.cat([low, low + sides], dim=1)
    if coarse:
        probabilities, boxes = (probabilities * 4).round() / 4, boxes.round()
    return probabilities, boxes, height, width


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize(
    ("cells", "height", "width", "threshold"),
    [(1, 5, 3, 0.5), (2, 40, 70, 0.25), (5, 33, 20, 0.7), (8, 31, 65, 0.5), (14, 64, 32, 0.5), (28, 70, 90, 0.3)],
)
def test_random_boxes_in_images_of_any_shape(kernels, cells, height, width, threshold, coarse):
    kernels(*random_case(cells, cells, height, width, coarse=coarse), threshold)


def test_masks_of_usual_size(kernels):
    random = torch.Generator().manual_seed(1)
    place = torch.linspace(-1, 1, 28)
    noise = 0.3 * torch.randn(2, 28, 28, generator=random)
    probabilities = torch.sigmoid(8 * (0.8 - torch.hypot(place[:, None], place)) + noise)
    low, sides = torch.rand(2, 2, generator=random) * 80 - 20, torch.rand(2, 2, generator=random) * 90 + 4
    masks = kernels(probabilities, torch.cat([low, low + sides], dim=1), 70, 96)
    assert 0.02 < masks.float().mean() < 0.5


@pytest.mark.parametrize(("height", "width"), [(1, 40), (40, 1), (1, 1)])
def test_images_of_one_row_or_column(kernels, height, width):
    kernels(*random_case(3, 5, height, width))


@pytest.mark.parametrize("height", [3, 32, 50])
@pytest.mark.parametrize(
    "box",
    [
        [-9, -9, 99, 99],  # all pixels
        [3, -9, 9, 99],  # whole columns
        [3, -9, 9, 2],  # from the top
        [3, 2, 9, 99],  # down to the bottom: the runs end at the top of the next columns
        [-9, 2, 99, 99],  # of which the last column has none
        [30, 1, 33, 99],  # across the border between two programs' columns
        [28, 1, 32, 99],  # up to the border
        [3, 28, 9, 32],  # down to the border between blocks of rows
    ],
)
def test_runs_go_on_from_the_bottom_of_a_column_to_the_top_of_the_next(kernels, height, box):
    masks = kernels(torch.ones(1, 8, 8), torch.tensor([box], dtype=torch.float32), height, 35)
    assert masks.any() == (box[1] < height)


def test_runs_count_pixels_down_the_columns_first_background(runs):
    grid = [[[0.9, 0.1], [0.8, 0.6]]]  # of pixel-sized cells: rows (1, 0) and (1, 1)
    assert runs(grid, [[1, 0, 3, 2]], 3, 5) == [[3, 2, 2, 1, 7]]
    assert runs(grid, [[1, 1, 3, 3]], 3, 5) == [[4, 2, 2, 1, 6]]
    assert runs(grid, [[0, 0, 2, 2]], 2, 3) == [[0, 2, 1, 1, 2]]
    assert runs(grid, [[1, 0, 3, 2]], 2, 3) == [[2, 2, 1, 1]]


def test_runs_of_several_masks_follow_each_other(runs):
    full, none, one = [[1.0]], [[0.0]], [[1.0]]
    boxes = [[-9, -9, 20, 20], [0, 0, 4, 3], [2, 1, 3, 2], [-9, -9, 20, 20]]
    assert runs([full, none, one, full], boxes, 3, 4) == [[0, 12], [12], [7, 1, 4], [0, 12]]


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
        [math.nan, 0, 3, 2],
        [0, 0, math.inf, 2],
        [0, -math.inf, 3, 2],
        [-math.inf, -math.inf, math.inf, math.inf],
        [math.inf, math.inf, math.inf, math.inf],
        [0, 0, 1e-40, 1e-40],
        [0, -3e38, 4, 3e38],
        [1e8, 0, 2e8, 3],
    ],
)
def test_boxes_that_hold_no_pixel_give_empty_masks(kernels, box):
    assert not kernels(torch.ones(1, 28, 28), torch.tensor([box], dtype=torch.float32), 3, 4).any()


def test_boxes_far_larger_than_the_image(kernels):
    boxes = torch.tensor([[-1e8, -1e8, 1e8, 1e8], [-1e30, -5, 1e30, 9], [-1e8, -2e4, 20.0, 1e4]])
    assert kernels(torch.ones(3, 8, 8), boxes, 20, 40).flatten(1).any(dim=1).all()


def test_no_detections_give_no_masks(kernels):
    assert kernels(torch.zeros(0, 28, 28), torch.zeros(0, 4), 3, 4).shape == (0, 3, 4)


def test_strided_inputs_are_welcome(kernels):
    probabilities, boxes, height, width = random_case(5, 6, 20, 30)
    kernels(probabilities.mT, torch.cat([boxes, boxes], dim=1)[:, :4], height, width)


def test_the_public_function_gives_the_same_strings_on_every_device(gpu):
    probabilities, boxes, height, width = random_case(6, 6, 20, 30)
    expected = paste_rle(probabilities, boxes, height=height, width=width)
    case = probabilities.to(gpu, torch.bfloat16).requires_grad_(), boxes.to(gpu)
    rounded = paste_rle(probabilities.bfloat16(), boxes, height=height, width=width)
    assert paste_rle(*case, height=height, width=width) == rounded
    assert paste_rle(probabilities.to(gpu), boxes, height=height, width=width) == expected


def test_many_strings_at_once_equal_each_alone():
    counts = [[0, 12], [12], [7, 1, 4], [1000000, 3, 5, 2**31, 1], []]
    stops = np.cumsum([len(part) for part in counts])
    packed = np.concatenate([np.array(part, np.int64) for part in counts])
    expected = [string_from_counts(np.array(part, np.uint32)) for part in counts]
    assert strings_from_counts(packed, stops) == expected
    assert strings_from_counts(packed[:0], stops[:0]) == []
