import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.ops import roi_align as package
from maskrcnn.ops.roi_align import reference, roi_align, roi_levels

STRIDES = (4, 8, 16)
NAN, INF = math.nan, math.inf


@pytest.fixture
def kernels(gpu):
    from maskrcnn.ops.roi_align import triton

    return triton


def pyramid_of(device, channels=3, dtype=torch.float32, images=2, strides=STRIDES):
    """Levels of an image of 28 x 36 pixels, channels-last, asking for gradients."""
    random = torch.Generator().manual_seed(0)
    shapes = [(images, channels, -(-28 // stride), -(-36 // stride)) for stride in strides]
    levels = [torch.randn(shape, generator=random).to(device, dtype) for shape in shapes]
    return [level.to(memory_format=torch.channels_last).requires_grad_() for level in levels]


def rois(device, count=5, images=2):
    """Boxes of all sizes, some beyond the image, and the image each lies in."""
    random = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=random) * torch.tensor([36.0, 28.0]) - 5
    size = torch.rand(count, 2, generator=random) ** 2 * torch.tensor([40.0, 32.0]) + 1
    images = torch.randint(0, images, (count,), generator=random)
    return torch.cat([corner, corner + size], 1).to(device), images.to(device)


def settings_of(pyramid, samples=2, half_pixel=True):
    """What the kernels take besides tensors and strides, forward and backward."""
    sizes = [side for level in pyramid for side in level.shape[2:]]
    return (samples, half_pixel, 24, 3), (len(pyramid[0]), sizes)


def by_reference(pyramid, boxes, images, strides, output_size, samples=2, half_pixel=True, upstream=None):
    """Pooled RoIs, and the gradients of the levels."""
    pooled = reference.roi_align(pyramid, boxes, images, strides=strides, output_size=output_size, samples=samples,
                                 half_pixel=half_pixel, canonical_size=24, canonical_level=3)  # fmt: skip
    return pooled, torch.autograd.grad(pooled, pyramid, upstream)


def compare(kernels, pyramid, boxes, images, *, strides=STRIDES, output_size=2, samples=2, half_pixel=True, atol=1e-5,
            rtol=1e-5):  # fmt: skip
    """Forward and both backwards against the reference."""
    rest, cells = settings_of(pyramid, samples, half_pixel)
    shape = (len(boxes), pyramid[0].shape[1], output_size, output_size)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(boxes.device, pyramid[0].dtype)
    upstream[1::3] = 0  # as in slots that are not in use
    expected, gradients = by_reference(pyramid, boxes, images, strides, output_size, samples, half_pixel, upstream)
    pooled = kernels.forward(pyramid, boxes, images, strides, output_size, *rest)
    assert pooled.dtype == pyramid[0].dtype
    assert pooled.stride() == torch.empty(shape).to(memory_format=torch.channels_last).stride()
    torch.testing.assert_close(pooled, expected, atol=atol, rtol=rtol)
    for backward in (kernels.backward, kernels.backward_deterministic):
        results = backward(upstream, boxes, images, *cells, strides, *rest)
        assert all(result.permute(0, 2, 3, 1).is_contiguous() for result in results)
        torch.testing.assert_close(tuple(results), gradients, atol=atol, rtol=rtol)


@pytest.mark.parametrize(
    ("channels", "output_size", "samples", "half_pixel"),
    [
        (3, 2, 2, True),
        (1, 1, 2, False),
        (3, 3, 1, False),
        (5, 1, 0, True),
        pytest.param(2, 1, 0, False, marks=pytest.mark.exhaustive),
    ],
)
def test_the_kernels_equal_the_reference(gpu, kernels, channels, output_size, samples, half_pixel):
    compare(kernels, pyramid_of(gpu, channels), *rois(gpu), output_size=output_size, samples=samples,
            half_pixel=half_pixel)  # fmt: skip


# The interpreter cuts numbers to bf16 where a GPU rounds them: one unit of the last of 8 bits.
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-9)])
def test_the_kernels_equal_the_reference_in_half_precision(gpu, kernels, dtype, rtol):
    compare(kernels, pyramid_of(gpu, 5, dtype), *rois(gpu), samples=1, atol=1e-3, rtol=rtol)


@pytest.mark.parametrize("half_pixel", [True, False])
def test_broken_boxes_do_as_in_the_reference(gpu, kernels, half_pixel):
    boxes = [[0, 0, 0, 0], [30, 20, 30, 40], [50, 40, 10, 5], [NAN] * 4, [8, 8, NAN, 20], [INF] * 4, [-INF, 0, INF, 9],
             [1e30, 0, 2e30, 8], [-1e6, -1e6, 1e6, 1e6], [200, 8, 240, 40], [-40, -40, -20, -20]]  # fmt: skip
    boxes = torch.tensor(boxes, device=gpu)
    images = torch.arange(len(boxes), device=gpu) % 2
    compare(kernels, pyramid_of(gpu), boxes, images, samples=1, half_pixel=half_pixel)


@pytest.mark.parametrize("strides", [(8,), (2, 4, 8, 16, 32)])
def test_any_number_of_levels_and_images_will_do(gpu, kernels, strides):
    pyramid = pyramid_of(gpu, 2, images=3, strides=strides)
    compare(kernels, pyramid, *rois(gpu, images=3), strides=strides, samples=1)


def test_many_boxes_and_channels_equal_the_reference(gpu, kernels):
    count, output_size = (600, 7) if gpu.type == "cuda" else (16, 1)
    compare(kernels, pyramid_of(gpu, 64), *rois(gpu, count), output_size=output_size, samples=1, atol=2e-5)


def test_boxes_change_level_where_the_reference_changes_it(gpu, kernels):
    # A level full of its own number tells which one a box reads. Of 24 pixels at stride 8, the edges are at 24 and 48.
    sides = [23.999, 24.0, 24.001, 47.999, 48.0, 48.001, 1.0, 100.0]
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in sides], device=gpu)
    pyramid = [torch.full((1, 1, 64 // stride, 64 // stride), index + 1.0, device=gpu) for index, stride in
               enumerate(STRIDES)]  # fmt: skip
    pooled = kernels.forward(pyramid, boxes, torch.zeros(8, dtype=torch.long, device=gpu), STRIDES, 1, 1, True, 24, 3)
    assert pooled.flatten().tolist() == [1, 2, 2, 2, 3, 3, 1, 3]
    assert roi_levels(boxes, STRIDES, 24, 3).tolist() == [0, 1, 1, 1, 2, 2, 0, 2]


def test_memory_of_the_input_does_not_matter(gpu, kernels):
    pyramid, (boxes, images) = pyramid_of(gpu), rois(gpu, 4)
    rest, cells = settings_of(pyramid, samples=1)
    pooled = kernels.forward(pyramid, boxes, images, STRIDES, 2, *rest)
    again = kernels.forward([level.contiguous() for level in pyramid], boxes, images, STRIDES, 2, *rest)
    assert torch.equal(pooled, again)
    gradients = kernels.backward_deterministic(pooled, boxes, images, *cells, STRIDES, *rest)
    again = kernels.backward_deterministic(pooled.contiguous(), boxes, images, *cells, STRIDES, *rest)
    assert all(map(torch.equal, gradients, again))


def test_no_boxes_give_an_empty_result_and_no_gradient(gpu, kernels):
    pyramid = pyramid_of(gpu)
    boxes, images = torch.zeros(0, 4, device=gpu), torch.zeros(0, dtype=torch.long, device=gpu)
    rest, cells = settings_of(pyramid)
    pooled = kernels.forward(pyramid, boxes, images, STRIDES, 2, *rest)
    assert pooled.shape == (0, 3, 2, 2)
    for backward in (kernels.backward, kernels.backward_deterministic):
        gradients = backward(pooled, boxes, images, *cells, STRIDES, *rest)
        assert [gradient.shape for gradient in gradients] == [level.shape for level in pyramid]
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", ["backward", "backward_deterministic"])
def test_cells_that_no_box_touches_have_no_gradient(gpu, kernels, name):
    # At stride 4 the box spans cells x 3.5 to 6.5, y 1.5 to 3.5, with samples at x 3.875 to 6.125, y 1.75 to 3.25.
    pyramid = pyramid_of(gpu)
    boxes, images = torch.tensor([[16.0, 8, 28, 16]], device=gpu), torch.tensor([1], device=gpu)
    rest, cells = settings_of(pyramid)
    gradients = getattr(kernels, name)(torch.ones(1, 3, 2, 2, device=gpu), boxes, images, *cells, STRIDES, *rest)
    touched = torch.zeros(2, 7, 9, dtype=torch.bool)
    touched[1, 1:5, 3:8] = True
    assert torch.equal((gradients[0] != 0).cpu(), touched[:, None].expand(2, 3, 7, 9))
    assert not any(gradient.any() for gradient in gradients[1:])


def test_the_deterministic_gradient_depends_on_the_order_within_each_image_and_level_alone(gpu, kernels):
    pyramid, (boxes, images) = pyramid_of(gpu), rois(gpu, 7)
    rest, cells = settings_of(pyramid, samples=1)
    upstream = torch.randn(7, 3, 1, 1, generator=torch.Generator().manual_seed(2)).to(gpu)
    order = torch.argsort(images, descending=True, stable=True)
    assert order.tolist() != list(range(7))
    runs = [kernels.backward_deterministic(upstream[rows], boxes[rows], images[rows], *cells, STRIDES, *rest)
            for rows in (slice(None), slice(None), order)]  # fmt: skip
    for again in runs[1:]:
        assert all(map(torch.equal, runs[0], again))


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_deterministic_algorithms_choose_the_backward(kernels, monkeypatch, is_deterministic):
    monkeypatch.setattr(kernels, "backward", lambda *arguments: [torch.zeros(1)])
    monkeypatch.setattr(kernels, "backward_deterministic", lambda *arguments: [torch.ones(1)])
    before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(is_deterministic)
        assert package._backward_on_gpu(*range(10))[0] == is_deterministic
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_on_a_gpu_take_the_kernels(monkeypatch, dtype):
    monkeypatch.setattr(package, "uses_kernel", lambda name: True)
    monkeypatch.setattr(reference, "roi_align", None)
    with FakeTensorMode():
        pyramid = [torch.empty(2, 5, 12, 20, dtype=dtype, device="cuda")]
        boxes, images = torch.empty(7, 4, device="cuda"), torch.empty(7, dtype=torch.long, device="cuda")
        pooled = roi_align(pyramid, boxes, images, strides=[4], output_size=3)
    assert (pooled.shape, pooled.dtype, pooled.device.type) == ((7, 5, 3, 3), dtype, "cuda")


@pytest.mark.parametrize(("dtype", "has_triton"), [(torch.float64, True), (torch.float32, False)])
def test_what_has_no_kernel_takes_the_reference(monkeypatch, dtype, has_triton):
    monkeypatch.setattr(package, "uses_kernel", lambda name: has_triton)
    monkeypatch.setattr(reference, "roi_align", lambda pyramid, *_, **settings: pyramid[0])
    with FakeTensorMode():
        pyramid = [torch.empty(7, 5, 3, 3, dtype=dtype, device="cuda")]
        boxes, images = torch.empty(7, 4, device="cuda"), torch.empty(7, dtype=torch.long, device="cuda")
        pooled = roi_align(pyramid, boxes, images, strides=[4], output_size=3)
    assert pooled is pyramid[0]


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_a_cuda_graph_repeats_pooling_and_its_gradient(gpu, is_deterministic):
    if gpu.type != "cuda":
        pytest.skip("a CUDA graph needs a GPU")
    pyramid, (boxes, images) = pyramid_of(gpu, 64, torch.bfloat16), rois(gpu, 200)
    settings = {"strides": STRIDES, "output_size": 7, "canonical_size": 24, "canonical_level": 3}

    def step():
        pooled = roi_align(pyramid, boxes, images, **settings)
        return pooled, *torch.autograd.grad(pooled.float().square().sum(), pyramid)

    try:
        torch.use_deterministic_algorithms(is_deterministic)
        step()  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = step()
        with torch.no_grad():
            boxes.copy_(boxes.flip(0))
        graph.replay()
        torch.testing.assert_close(results, step(), atol=0 if is_deterministic else 0.05, rtol=0.02)
    finally:
        torch.use_deterministic_algorithms(False)
