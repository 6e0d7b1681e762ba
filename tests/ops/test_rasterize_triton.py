"""The GPU kernel gives the cells of the reference, all of them."""

import math

import pytest
import torch

from maskrcnn.ops.rasterize import rasterize, reference


@pytest.fixture
def kernel(gpu):
    """Asserts that the kernel equals the reference, and returns its masks."""
    from maskrcnn.ops.rasterize import triton

    def compare(edges, first_edge, boxes, images, objects, size):
        case = [tensor.to(gpu) for tensor in (edges, first_edge, boxes, images, objects)]
        masks = triton.rasterize(*case, size)
        assert (masks.shape, masks.dtype, masks.device) == ((len(boxes), size, size), torch.float32, case[0].device)
        assert torch.equal(masks, reference.rasterize(*case, size))
        return masks.cpu()

    return compare


def closed(*rings):
    """The edges of some rings of points."""
    rings = [torch.as_tensor(ring, dtype=torch.float32) for ring in rings]
    return torch.cat([torch.cat([ring, ring.roll(-1, 0)], dim=1) for ring in rings])


def rectangle(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def pack(objects):
    """Edges and first edges of one image."""
    lengths = torch.tensor([0, *map(len, objects)])
    return torch.cat(objects)[None], lengths.cumsum(0)[None]


def in_boxes(objects, boxes, size):
    """Every object of one image inside every box."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    items = torch.arange(len(objects)).repeat_interleave(len(boxes))
    return *pack(objects), boxes.repeat(len(objects), 1), torch.zeros_like(items), items, size


def star(random, points, height, width):
    angle = torch.arange(points) * (2 * math.pi / points)
    radius = 0.2 + 0.3 * torch.rand(points, generator=random)
    return torch.stack([width * (0.5 + radius * angle.cos()), height * (0.5 + radius * angle.sin())], dim=1)


def random_case(seed, num_boxes, points, height=48, width=80):
    """Two images of three objects each, of which the second or the first has no outline; padding behind the edges."""
    random = torch.Generator().manual_seed(seed)
    one, two, three, four = (closed(star(random, points, height, width)) for _ in range(4))
    none = torch.zeros(0, 4)
    images = pack([one, none, two]), pack([none, three, four])
    edges, first_edge = (torch.cat(tensors) for tensors in zip(*images, strict=True))
    corners = torch.rand(num_boxes, 2, 2, generator=random) * torch.tensor([width, height]) * 1.2 - 5
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    indices = torch.randint(0, 2, (num_boxes,), generator=random), torch.randint(0, 3, (num_boxes,), generator=random)
    return torch.nn.functional.pad(edges, (0, 0, 0, 5)), first_edge, boxes, *indices


@pytest.mark.parametrize("size", [1, 2, 7, 28, 33, 64])
def test_random_outlines_of_several_images_and_objects(kernel, size):
    assert 0 < kernel(*random_case(size, num_boxes=12, points=9), size).mean() < 1


@pytest.mark.parametrize("points", [3, 127, 128, 129, 300])
def test_outlines_of_any_length(kernel, points):
    edges, first_edge, boxes, images, objects = random_case(points, num_boxes=3, points=points)
    boxes[0], objects[0] = torch.tensor([0.0, 0, 80, 48]), 2
    assert kernel(edges, first_edge, boxes, images, objects, 14)[0].mean() > 0.05


def test_many_boxes_of_masks_of_usual_size(kernel):
    kernel(*random_case(1, num_boxes=30, points=60), 28)


def test_holes_stay_open_and_overlapping_rings_unite(kernel):
    frame = closed(rectangle(0, 0, 8, 4), rectangle(2, 1, 6, 3)[::-1])
    cross = closed(rectangle(0, 1, 8, 3), rectangle(2, 0, 6, 4))
    masks = kernel(*in_boxes([frame, cross], [[0, 0, 8, 4]], 4))
    assert masks[0].tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert masks[1].tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]


def test_windings_of_both_signs_and_above_one(kernel):
    twice = closed(rectangle(1, 0, 5, 2), rectangle(1, 0, 5, 2), rectangle(0, 0, 3, 2)[::-1])
    masks = kernel(*in_boxes([twice], [[0, 0, 6, 2]], 6))
    assert masks[0, 0].tolist() == [1, 1, 1, 1, 1, 0]


def test_a_centre_on_an_outline_belongs_to_what_lies_right_of_or_below_it(kernel):
    outlines = [closed(rectangle(0.5, 0.5, 1.5, 2.5)), closed(rectangle(1.5, 0.5, 3.5, 2.5))]
    left, right = kernel(*in_boxes(outlines, [[0, 0, 4, 4]], 4))
    assert left.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert right.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_outlines_through_cell_centres(kernel):
    random = torch.Generator().manual_seed(3)
    outlines = [closed(torch.randint(0, 9, (6, 2), generator=random) / 2) for _ in range(15)]
    kernel(*in_boxes(outlines, [[0, 0, 4, 4]], 4))


def test_ties_fall_as_on_the_cpu_where_no_float_is_exact(gpu):
    from maskrcnn.ops.rasterize import triton

    random = torch.Generator().manual_seed(0)
    outlines = [closed(torch.randint(0, 98, (6, 2), generator=random) / 2) for _ in range(12)]
    *case, size = in_boxes(outlines, [[0, 0, 49, 49]], 28)  # centres lie 1.75 pixels apart
    assert torch.equal(triton.rasterize(*(tensor.to(gpu) for tensor in case), size).cpu(), rasterize(*case, size=size))


@pytest.mark.parametrize(
    "box",
    [
        [2, 1, 2, 3],
        [1, 2, 3, 2],
        [3, 3, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 1e-9, 4],
        [0, 0, math.nan, 4],
        [math.nan, 0, 4, 4],
        [0, 0, math.inf, 4],
        [0, -math.inf, 4, 4],
        [-math.inf, 0, 4, 4],
        [-math.inf, -math.inf, math.inf, math.inf],
        [90, 0, 99, 4],
        [0, -3e38, 4, -2e38],
    ],
)
def test_boxes_without_area_or_far_outside_give_zeros(kernel, box):
    assert kernel(*in_boxes([closed(rectangle(0, 0, 4, 4))], [box], 5)).sum() == 0


def test_tiny_and_large_boxes(kernel):
    boxes = [[1, 1, 1.0002, 1.0001], [3.9999, 1, 4.0001, 3], [-9e3, -5e3, 9e3, 5e3], [-3e38, 0, 3e38, 4]]
    masks = kernel(*in_boxes([closed(rectangle(0, 0, 4, 4))], boxes, 6))
    assert masks[0].all()
    assert masks[1, 0].tolist() == [1, 1, 1, 0, 0, 0]


def test_without_boxes_or_edges_there_is_nothing(kernel):
    none = torch.zeros(0, dtype=torch.int64)
    edges, first_edge = torch.zeros(2, 6, 4), torch.zeros(2, 4, dtype=torch.int64)
    kernel(edges, first_edge, torch.zeros(0, 4), none, none, 5)
    one = torch.ones(1, dtype=torch.int64)
    assert kernel(edges[:, :0], first_edge, torch.tensor([[0.0, 0, 3, 2]]), one, one, 5).sum() == 0


def test_other_integers_and_strided_inputs_are_welcome(kernel):
    edges, first_edge, boxes, images, objects = random_case(4, num_boxes=4, points=5)
    wide = torch.zeros(4, 6)
    wide[:, :4] = boxes
    case = edges[:1].expand(2, -1, -1), first_edge[:1].int().expand(2, -1), wide[:, :4], images.int(), objects.int()
    assert kernel(*case, 7).any()
