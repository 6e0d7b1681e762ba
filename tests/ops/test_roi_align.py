import inspect
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.ops.roi_align import reference, roi_align, roi_levels

STRIDES = (4, 8, 16)
SETTINGS = {
    "strides": STRIDES,
    "output_size": 3,
    "samples": 2,
    "half_pixel": True,
    "canonical_size": 64,
    "canonical_level": 3,
}
NAN, INF = math.nan, math.inf


def pyramid_of(channels=5, dtype=torch.float32, images=2, seed=0):
    """Levels of an image of 48 x 80 pixels, channels-last, asking for gradients."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(images, channels, 48 // stride, 80 // stride) for stride in STRIDES]
    levels = [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in shapes]
    return [level.to(memory_format=torch.channels_last).requires_grad_() for level in levels]


def rois(count=23, dtype=torch.float32, seed=1):
    """Boxes of all sizes, some beyond the image, and the image each lies in."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random, dtype=dtype) * torch.tensor([90.0, 60.0], dtype=dtype) - 10
    size = torch.rand(count, 2, generator=random, dtype=dtype) ** 2 * torch.tensor([90.0, 60.0], dtype=dtype) + 1
    return torch.cat([corner, corner + size], 1), torch.randint(0, 2, (count,), generator=random)


def by_loops(level, box, stride, output_size, samples, half_pixel=True):
    """One channel, one box, one level, point by point: (S, S)."""
    height, width = level.shape
    shift = 0.5 if half_pixel else 0.0

    def bilinear(y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0.0
        y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = level[top, left] * (1 - (x - left)) + level[top, right] * (x - left)
        lower = level[bottom, left] * (1 - (x - left)) + level[bottom, right] * (x - left)
        return upper * (1 - (y - top)) + lower * (y - top)

    x1, y1, x2, y2 = (side / stride - shift for side in box)
    smallest = 0.0 if half_pixel else 1.0
    bin_height, bin_width = max(y2 - y1, smallest) / output_size, max(x2 - x1, smallest) / output_size
    down, right = (
        [(k + 0.5) / n for k in range(n)] for n in (samples or max(1, math.ceil(s)) for s in (bin_height, bin_width))
    )
    return [
        [
            np.mean([bilinear(y1 + (i + a) * bin_height, x1 + (j + b) * bin_width) for a in down for b in right])
            for j in range(output_size)
        ]
        for i in range(output_size)
    ]


def test_bins_over_a_ramp_are_its_values_at_the_bin_centres():
    # Cell (i, j) holds 10 i + j, so a point inside holds 10 y + x. Stride 4: the box spans cells x 0.5..4.5, y 1.5..3.5
    # after the half-pixel shift; the centres of its 2 x 2 bins are x 1.5, 3.5 and y 2, 3.
    ramp = (10.0 * torch.arange(6)[:, None] + torch.arange(8)).view(1, 1, 6, 8)
    box, image = torch.tensor([[4.0, 8.0, 20.0, 16.0]]), torch.tensor([0])
    pooled = roi_align([ramp], box, image, strides=[4], output_size=2)
    torch.testing.assert_close(pooled, torch.tensor([[[[21.5, 23.5], [31.5, 33.5]]]]))
    # A second channel that only grows downwards tells rows from columns.
    rows = torch.cat([ramp, torch.arange(6.0)[:, None].expand(1, 1, 6, 8)], 1)
    pooled = roi_align([rows], box, image, strides=[4], output_size=2)
    torch.testing.assert_close(pooled[0, 1], torch.tensor([[2.0, 2.0], [3.0, 3.0]]))


def test_the_gradient_of_one_bin_is_its_four_bilinear_weights():
    # One sample, at the box's centre: (7, 6) px at stride 4 is cell x 1.25, y 1 after the half-pixel shift.
    level = torch.zeros(1, 1, 3, 4, requires_grad=True)
    box = torch.tensor([[5.0, 5.0, 9.0, 7.0]])
    pooled = roi_align([level], box, torch.tensor([0]), strides=[4], output_size=1, samples=1)
    (gradient,) = torch.autograd.grad(pooled.sum(), [level])
    expected = torch.zeros(1, 1, 3, 4)
    expected[0, 0, 1, 1], expected[0, 0, 1, 2] = 0.75, 0.25
    torch.testing.assert_close(gradient, expected)


def test_samples_beyond_the_border_take_the_border_and_farther_ones_are_zero():
    level = torch.full((1, 1, 4, 6), 7.0)
    # One sample at the centre of each box: cells x = -0.5, -1.0, -1.25, and 6.0, 6.25 of 6 columns.
    centres = torch.tensor([0.0, -2.0, -3.0, 26.0, 27.0])
    boxes = torch.stack([centres - 1, torch.full((5,), 7.0), centres + 1, torch.full((5,), 9.0)], 1)
    pooled = roi_align([level], boxes, torch.zeros(5, dtype=torch.long), strides=[4], output_size=1, samples=1)
    assert pooled.flatten().tolist() == [7.0, 7.0, 0.0, 7.0, 0.0]


@pytest.mark.parametrize("implementation", [roi_align, reference.roi_align])
@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2, 3])
def test_it_equals_a_loop_over_points(implementation, samples, half_pixel):
    pyramid = pyramid_of(channels=2, dtype=torch.float64)
    boxes, images = rois(11, torch.float64)
    boxes[0], boxes[1] = torch.tensor([0.0, 20.0, 80.0, 23.5]), torch.tensor([30.0, 0.0, 31.0, 48.0])  # long and thin
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([80.0, 48.0] * 2))
    pooled = implementation(pyramid, boxes, images, **SETTINGS | {"samples": samples, "half_pixel": half_pixel})
    for r, index in enumerate(roi_levels(boxes, STRIDES, 64, 3).tolist()):
        plane = pyramid[index][images[r], 1].detach().numpy()
        expected = torch.tensor(by_loops(plane, boxes[r].tolist(), STRIDES[index], 3, samples, half_pixel))
        torch.testing.assert_close(pooled[r, 1], expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.02), (torch.float16, 2e-3)],
)
@pytest.mark.parametrize(
    ("channels", "samples", "half_pixel"), [(1, 2, True), (5, 2, True), (33, 2, True), (5, 2, False), (5, 0, True)]
)
def test_the_kernel_equals_the_reference_with_its_gradient(dtype, tolerance, channels, samples, half_pixel):
    pyramid, (boxes, images) = pyramid_of(channels, dtype), rois()
    boxes = boxes.to(torch.promote_types(dtype, torch.float32))
    settings = SETTINGS | {"samples": samples, "half_pixel": half_pixel}
    pooled = roi_align(pyramid, boxes, images, **settings)
    expected = reference.roi_align(pyramid, boxes, images, **settings)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, expected, atol=tolerance, rtol=tolerance)
    upstream = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients, expected = (torch.autograd.grad(result, pyramid, upstream) for result in (pooled, expected))
    torch.testing.assert_close(gradients, expected, atol=tolerance, rtol=tolerance)


def test_bf16_rounds_like_torch():
    pyramid, (boxes, images) = pyramid_of(7), rois()
    half = [level.bfloat16() for level in pyramid]
    exact = roi_align([level.float() for level in half], boxes, images, **SETTINGS)
    assert torch.equal(roi_align(half, boxes, images, **SETTINGS), exact.bfloat16())
    half[0].fill_(NAN)
    assert roi_align(half[:1], boxes[:1].clamp(4, 40), images[:1], strides=[4], output_size=1).isnan().all()


@pytest.mark.parametrize("implementation", [roi_align, reference.roi_align])
def test_gradients_equal_finite_differences(implementation):
    pyramid, (boxes, images) = pyramid_of(2, torch.float64, images=2), rois(5, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *levels: implementation(list(levels), boxes, images, **SETTINGS), pyramid, fast_mode=True
    )


def test_memory_is_channels_last_whatever_the_input():
    pyramid, (boxes, images) = pyramid_of(), rois()
    pooled = roi_align(pyramid, boxes, images, **SETTINGS)
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    again = roi_align([level.contiguous() for level in pyramid], boxes, images, **SETTINGS)
    assert torch.equal(pooled, again)
    assert again.stride() == pooled.stride()
    (gradient, *_) = torch.autograd.grad(pooled.sum(), pyramid)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_results_do_not_depend_on_the_number_of_threads():
    pyramid, (boxes, images) = pyramid_of(channels=70), rois(700)
    settings = SETTINGS | {"output_size": 7}
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            pooled = roi_align(pyramid, boxes, images, **settings)
            results.append((pooled, *torch.autograd.grad(pooled.square().sum(), pyramid)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_several_threads_may_call_at_once():
    pyramid, (boxes, images) = pyramid_of(channels=70), rois(300)
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(roi_align, pyramid, boxes, images, **SETTINGS) for _ in range(8)]
        results = [call.result() for call in calls]
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("implementation", [roi_align, reference.roi_align])
def test_no_boxes_give_an_empty_result_with_gradient(implementation):
    pyramid = pyramid_of()
    pooled = implementation(pyramid, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), **SETTINGS)
    assert pooled.shape == (0, 5, 3, 3)
    gradients = torch.autograd.grad(pooled.sum(), pyramid)
    assert [gradient.shape for gradient in gradients] == [level.shape for level in pyramid]
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("implementation", [roi_align, reference.roi_align])
def test_broken_boxes_give_finite_values_and_gradients(implementation):
    boxes = torch.tensor(
        [[0, 0, 0, 0], [30, 20, 30, 40], [50, 40, 10, 5], [NAN] * 4, [INF] * 4, [-INF, 0, INF, 9], [1e30, 0, 2e30, 8]]
    )
    pyramid = pyramid_of()
    pooled = implementation(pyramid, boxes, torch.zeros(7, dtype=torch.long), **SETTINGS)
    gradients = torch.autograd.grad(pooled.sum(), pyramid)
    assert all(result.isfinite().all() for result in (pooled, *gradients))
    torch.testing.assert_close(pooled[0], pyramid[0][0, :, 0, 0].view(5, 1, 1).expand(5, 3, 3))
    assert not pooled[3].any()


def test_only_the_levels_that_ask_receive_gradients():
    pyramid, (boxes, images) = pyramid_of(), rois()
    pyramid[1].requires_grad_(False)
    boxes.requires_grad_()
    roi_align(pyramid, boxes, images, **SETTINGS).sum().backward()
    assert [level.grad is not None for level in pyramid] == [True, False, True]
    assert boxes.grad is None


def test_levels_follow_the_square_root_of_the_area():
    sides = [(224, 224), (112, 448), (223, 224), (447, 448), (448, 448), (112, 112), (111, 112), (1, 2), (5000, 3000)]
    boxes = torch.tensor([[10.0, 20.0, 10.0 + width, 20.0 + height] for height, width in sides])
    assert roi_levels(boxes, (4, 8, 16, 32)).tolist() == [2, 2, 1, 2, 3, 1, 0, 0, 3]
    assert roi_levels(boxes, (8, 16)).tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 1]
    assert roi_levels(boxes, (16,)).tolist() == [0] * len(sides)
    assert roi_levels(boxes[:1], (4, 8, 16, 32), canonical_size=112, canonical_level=3).tolist() == [2]


def test_levels_of_broken_boxes_exist():
    boxes = torch.tensor([[0.0, 0, 0, 0], [9, 9, 3, 3], [NAN] * 4, [-INF, -INF, INF, INF]])
    assert roi_levels(boxes, (4, 8, 16)).tolist() == [0, 0, 0, 2]


def test_each_box_reads_its_own_image_and_level():
    pyramid = [torch.full((3, 1, 48 // s, 80 // s), 10.0 * s) + torch.arange(3.0).view(3, 1, 1, 1) for s in STRIDES]
    boxes = torch.tensor([[8.0, 8, 20, 28], [2, 2, 78, 46], [8, 8, 20, 28], [0, 0, 46, 46]])
    pooled = roi_align(pyramid, boxes, torch.tensor([2, 0, 1, 1]), strides=STRIDES, output_size=1, canonical_size=56,
                       canonical_level=4)  # fmt: skip
    assert pooled.flatten().tolist() == [42.0, 160.0, 41.0, 81.0]


def test_wrong_arguments_are_named():
    pyramid, (boxes, images) = pyramid_of(), rois()
    with pytest.raises(ValueError, match="one stride for each level, received 2 for 3"):
        roi_align(pyramid, boxes, images, strides=(4, 8), output_size=3)
    with pytest.raises(ValueError, match="each twice the one before"):
        roi_align(pyramid, boxes, images, strides=(4, 8, 32), output_size=3)
    with pytest.raises(ValueError, match=r"expected boxes \(22, 4\)"):
        inspect.unwrap(roi_align)(pyramid, boxes, images[:-1], strides=STRIDES, output_size=3)
    with pytest.raises(ValueError, match="index a batch of 2, received"):
        roi_align(pyramid, boxes, images + 1, strides=STRIDES, output_size=3)


@pytest.mark.parametrize("channels", [1, 5])
def test_the_operators_keep_the_rules_of_torch_library(channels):
    pyramid, (boxes, images) = pyramid_of(channels), rois(6)
    settings = (list(STRIDES), 3, 2, True, 64, 3)
    torch.library.opcheck(torch.ops.maskrcnn.roi_align.default, (pyramid, boxes, images, *settings))
    sizes = [side for level in pyramid for side in level.shape[2:]]
    arguments = (torch.randn(6, channels, 3, 3), boxes, images, 2, sizes, list(STRIDES), 2, True, 64, 3)
    torch.library.opcheck(torch.ops.maskrcnn.roi_align_backward.default, arguments)


@pytest.mark.parametrize("implementation", [roi_align, reference.roi_align])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_traces_as_one_graph_with_its_gradient(implementation, backend):
    torch._dynamo.reset()
    pyramid, (boxes, images) = pyramid_of(), rois()
    traced = torch.compile(lambda *levels: implementation(list(levels), boxes, images, **SETTINGS), fullgraph=True,
                           backend=backend)  # fmt: skip
    pooled, expected = traced(*pyramid), implementation(pyramid, boxes, images, **SETTINGS)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(
        torch.autograd.grad(pooled.sum(), pyramid), torch.autograd.grad(expected.sum(), pyramid), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("implementation", [roi_align, reference.roi_align])
def test_fake_tensors_give_shapes_strides_and_gradients(implementation):
    with FakeTensorMode():
        pyramid = [torch.empty(2, 5, 48 // stride, 80 // stride, requires_grad=True) for stride in STRIDES]
        boxes, images = torch.empty(7, 4), torch.empty(7, dtype=torch.long)
        pooled = implementation(pyramid, boxes, images, **SETTINGS)
        gradients = torch.autograd.grad(pooled.sum(), pyramid)
    assert pooled.shape == (7, 5, 3, 3)
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    assert [gradient.shape for gradient in gradients] == [level.shape for level in pyramid]


@pytest.mark.parametrize("output_size", [1, 3, 7])
def test_no_bin_has_more_samples_than_there_is_room_for(output_size):
    sizes = [(200, 336), (100, 168), (50, 84)]
    sides = torch.logspace(-1, 3.2, 60)
    width, height = sides.repeat(60).clamp(max=1344), sides.repeat_interleave(60).clamp(max=800)
    boxes = torch.stack([torch.zeros(3600), torch.zeros(3600), width, height], 1)
    levels = roi_levels(boxes, STRIDES, 64, 3)
    placed = reference.place(boxes, levels, sizes, STRIDES, output_size=output_size, samples=0, half_pixel=True)
    most = reference.most_samples(sizes, output_size=output_size, samples=0, canonical_size=64, canonical_level=3)
    assert placed.counts.min() == 1
    assert placed.counts.prod(1).max() <= most


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2])
def test_it_equals_torchvision(samples, half_pixel):
    operators = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    pyramid, (boxes, images) = pyramid_of(), rois()
    if samples == 0:  # a box larger than its level has at most as many samples as the level has cells
        boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([80.0, 48.0] * 2))
        inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, images = boxes[inside], images[inside]
    levels = roi_levels(boxes, STRIDES, 64, 3)
    pooled = roi_align(pyramid, boxes, images, **SETTINGS | {"samples": samples, "half_pixel": half_pixel})
    for index, stride in enumerate(STRIDES):
        here = levels == index
        flat = torch.cat([images[here, None].float(), boxes[here]], 1)
        expected = operators.roi_align(pyramid[index], flat, 3, 1 / stride, samples, aligned=half_pixel)
        torch.testing.assert_close(pooled[here], expected, atol=1e-4, rtol=1e-4)
