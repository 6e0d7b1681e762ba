import inspect

import numpy as np
import pytest
import torch

from maskrcnn.masks import edges_from_rings, rings_from_bitmap, rings_from_counts, rings_from_polygons
from maskrcnn.ops.rasterize import rasterize, reference


def pack(objects, num_images=1):
    """The same objects (Rings) in each of the images."""
    edges = [torch.from_numpy(edges_from_rings(rings)) for rings in objects]
    first_edge = torch.tensor([0, *np.cumsum([len(part) for part in edges])])
    return torch.cat(edges).expand(num_images, -1, -1), first_edge.expand(num_images, -1)


def whole(rings, height, width, size):
    """One object inside a box that spans the whole image."""
    edges, first_edge = pack([rings])
    zero = torch.zeros(1, dtype=torch.int64)
    return rasterize(edges, first_edge, torch.tensor([[0.0, 0.0, width, height]]), zero, zero, size=size)[0]


def random_polygon(generator, height, width, points=9):
    angle = np.sort(generator.uniform(0, 2 * np.pi, points))
    radius = generator.uniform(0.3, 0.5, points)
    return np.stack([width * (0.5 + radius * np.cos(angle)), height * (0.5 + radius * np.sin(angle))], axis=1).ravel()


def random_case(seed, num_images=2, num_objects=3, num_boxes=40, height=48, width=80):
    generator = np.random.default_rng(seed)
    objects = [rings_from_polygons([random_polygon(generator, height, width)]) for _ in range(num_objects - 1)]
    objects.append(rings_from_bitmap(generator.random((height, width)) < 0.5))
    edges, first_edge = pack(objects, num_images)
    edges = edges + torch.arange(num_images)[:, None, None] * 3.0
    corners = generator.uniform(-5, width, (num_boxes, 2, 2))
    boxes = torch.tensor(np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1), dtype=torch.float32)
    images = torch.from_numpy(generator.integers(0, num_images, num_boxes))
    return edges, first_edge, boxes, images, torch.from_numpy(generator.integers(0, num_objects, num_boxes))


def test_a_triangle_covers_the_cells_whose_centres_it_holds():
    mask = whole(rings_from_polygons([[0, 0, 8, 0, 0, 4]]), height=4, width=8, size=4)
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_wide_box_stretches_over_the_square_grid():
    mask = whole(rings_from_polygons([[6, 0, 12, 0, 12, 1, 6, 1]]), height=3, width=12, size=3)
    assert mask.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]  # a centre at x = 6 belongs to what lies right of it


def test_holes_stay_open():
    frame = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    assert whole(rings_from_bitmap(frame), height=4, width=4, size=4).tolist() == frame.astype(float).tolist()


def test_parts_unite_also_where_they_overlap_and_however_they_turn():
    left, right = [0, 0, 3, 0, 3, 2, 0, 2], [2, 0, 2, 2, 4, 2, 4, 0]
    mask = whole(rings_from_polygons([left, right, [0, 3, 1, 3, 1, 4, 0, 4]]), height=4, width=4, size=4)
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_each_box_takes_the_object_and_image_it_names():
    objects = [rings_from_polygons([[0, 0, 1, 0, 1, 2, 0, 2]]), rings_from_polygons([[1, 0, 2, 0, 2, 2, 1, 2]])]
    edges, first_edge = pack(objects, num_images=2)
    edges = edges * torch.tensor([1.0, 3.0])[:, None, None]
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 6, 6], [2, 0, 6, 6]])
    images, items = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
    masks = rasterize(edges, first_edge, boxes, images, items, size=2)
    left, right = [[1, 0], [1, 0]], [[0, 1], [0, 1]]
    assert masks.tolist() == [left, right, right, [[0, 0], [0, 0]]]


@pytest.mark.parametrize("implementation", [rasterize, reference.rasterize])
def test_a_second_call_takes_away_what_is_pasted_above(implementation):
    """docs/decisions/0025-views.md: the outlines above are one run of edges, whose winding number unites them."""
    below, first, second = [[0, 0, 6, 0, 6, 4, 0, 4]], [[1, 1, 4, 1, 4, 3, 1, 3]], [[3, 2, 6, 2, 6, 4, 3, 4]]
    edges, first_edge = pack([rings_from_polygons(parts) for parts in (below, first, second)])
    box = torch.tensor([[0.0, 0.0, 6.0, 4.0]])
    zero = torch.zeros(1, dtype=torch.int64)
    above = torch.stack([first_edge[:, 1], first_edge[:, -1]], 1)
    found = implementation(edges, first_edge, box, zero, zero, size=12)
    found = found * (1 - implementation(edges, above, box, zero, zero, size=12))
    expected = torch.ones(4, 6)
    expected[1:3, 1:4] = expected[2:4, 3:6] = 0
    assert torch.equal(found[0], expected.repeat_interleave(3, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 7, 28])
def test_the_kernel_equals_the_reference_in_every_cell(seed, size):
    case = random_case(seed)
    masks = rasterize(*case, size=size)
    assert torch.equal(masks, reference.rasterize(*case, size))
    assert 0 < masks.mean() < 1


def test_outlines_on_cell_centres_equal_the_reference():
    generator = np.random.default_rng(5)
    objects = [rings_from_polygons([generator.integers(0, 9, 12) / 2]) for _ in range(40)]
    edges, first_edge = pack(objects)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).expand(40, 4)
    indices = torch.zeros(40, dtype=torch.int64), torch.arange(40)
    masks = rasterize(edges, first_edge, boxes, *indices, size=4)
    assert torch.equal(masks, reference.rasterize(edges, first_edge, boxes, *indices, 4))


def test_a_crowd_of_run_lengths_equals_pycocotools_in_every_pixel():
    coco = pytest.importorskip("pycocotools.mask")
    bitmap = np.random.default_rng(1).random((37, 37)) < 0.6
    rle = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], bitmap.T.ravel(), [2]]))))
    counts = np.concatenate([[0], runs]) if bitmap[0, 0] else runs
    mask = whole(rings_from_counts(counts, 37, 37), height=37, width=37, size=37)
    assert np.array_equal(mask.numpy(), coco.decode(rle))


def test_polygons_differ_from_pycocotools_only_along_their_outline():
    coco = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(2)
    different = perimeter = 0
    for _ in range(60):
        polygon = random_polygon(generator, 56, 56)
        theirs = coco.decode(coco.frPyObjects([polygon.tolist()], 56, 56))[:, :, 0]
        different += np.abs(whole(rings_from_polygons([polygon]), 56, 56, size=56).numpy() - theirs).sum()
        points = polygon.reshape(-1, 2)
        perimeter += np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum()
    assert (
        different / perimeter < 0.2
    )  # measured 0.15: COCO rounds points to fifths of a pixel and fills half a step more


def test_the_area_of_polygons_is_unbiased():
    generator = np.random.default_rng(3)
    errors = []
    for _ in range(300):
        polygon = random_polygon(generator, 40, 60)
        x, y = polygon.reshape(-1, 2).T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        errors.append(whole(rings_from_polygons([polygon]), 40, 60, size=28).mean().item() * 40 * 60 - area)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(300)
    assert np.std(errors) < 0.01 * 40 * 60


def test_flipping_the_edges_mirrors_the_mask():
    edges, first_edge, boxes, images, items = random_case(7, width=80)
    mirror, offset = torch.tensor([-1.0, 1.0]), torch.tensor([80.0, 0.0])
    flipped_edges = edges * mirror.repeat(2) + offset.repeat(2)
    flipped_boxes = (boxes * mirror.repeat(2) + offset.repeat(2))[:, [2, 1, 0, 3]]
    masks = rasterize(edges, first_edge, boxes, images, items, size=14)
    assert torch.equal(rasterize(flipped_edges, first_edge, flipped_boxes, images, items, size=14), masks.flip(2))


def test_padded_edges_and_objects_change_nothing():
    edges, first_edge, boxes, images, items = random_case(8)
    padded_edges = torch.nn.functional.pad(edges, (0, 0, 0, 11))
    last = first_edge[:, -1:]
    padded_first = torch.cat([first_edge, last, last + 11], dim=1)
    masks = rasterize(edges, first_edge, boxes, images, items, size=14)
    assert torch.equal(rasterize(padded_edges, padded_first, boxes, images, items, size=14), masks)
    assert rasterize(padded_edges, padded_first, boxes, images, torch.full_like(items, 3), size=14).sum() == 0
    assert rasterize(padded_edges, padded_first, boxes, images, torch.full_like(items, 4), size=14).sum() == 0


@pytest.mark.parametrize("implementation", [rasterize, reference.rasterize])
@pytest.mark.parametrize(
    "box", [[2, 1, 2, 3], [1, 2, 3, 2], [3, 3, 1, 1], [0, 0, 0, 0], [0, 0, 1e-9, 4], [0, 0, float("nan"), 4]]
)
def test_boxes_of_no_area_give_zeros(implementation, box):
    edges, first_edge = pack([rings_from_polygons([[0, 0, 4, 0, 4, 4, 0, 4]])])
    zero = torch.zeros(1, dtype=torch.int64)
    size = {"size": 5}
    assert implementation(edges, first_edge, torch.tensor([box], dtype=torch.float32), zero, zero, **size).sum() == 0


@pytest.mark.parametrize("implementation", [rasterize, reference.rasterize])
def test_no_boxes_and_no_edges_give_empty_results(implementation):
    none = torch.zeros(0, dtype=torch.int64)
    size = {"size": 5}
    edges, first_edge = torch.zeros(2, 6, 4), torch.zeros(2, 4, dtype=torch.int64)
    assert implementation(edges, first_edge, torch.zeros(0, 4), none, none, **size).shape == (0, 5, 5)
    zero = torch.zeros(1, dtype=torch.int64)
    assert implementation(edges[:, :0], first_edge, torch.tensor([[0.0, 0, 3, 2]]), zero, zero, **size).sum() == 0


def test_targets_carry_no_gradient_and_low_precision_is_welcome():
    edges, first_edge, boxes, images, items = random_case(9)
    masks = rasterize(edges.bfloat16(), first_edge, boxes.bfloat16().requires_grad_(), images, items, size=7)
    assert masks.dtype == torch.float32
    assert not masks.requires_grad


def test_indices_beyond_their_tensors_are_refused():
    edges, first_edge, boxes, images, items = random_case(10)
    with pytest.raises(ValueError, match="images: expected indices from 0 to 1, received 2 to 2"):
        rasterize(edges, first_edge, boxes, torch.full_like(images, 2), items, size=7)
    with pytest.raises(ValueError, match="objects: expected indices from 0 to 2, received -1 to -1"):
        rasterize(edges, first_edge, boxes, images, torch.full_like(items, -1), size=7)
    with pytest.raises(ValueError, match="first_edge: expected indices from 0 to 5"):
        rasterize(edges[:, :5], first_edge, boxes, images, items, size=7)
    with pytest.raises(ValueError, match="at least one cell"):
        rasterize(edges, first_edge, boxes, images, items, size=0)


def test_the_operator_keeps_torchs_contract():
    torch.library.opcheck(torch.ops.maskrcnn.rasterize.default, (*random_case(11, num_boxes=5), 7))


@pytest.mark.parametrize("implementation", [rasterize, inspect.unwrap(reference.rasterize)])
def test_it_traces_as_one_graph(implementation):
    case = random_case(12, num_boxes=5)
    compiled = torch.compile(lambda *tensors: implementation(*tensors, size=7), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*case), rasterize(*case, size=7))
