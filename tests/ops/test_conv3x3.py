"""A quarter of the multiplications, the same convolution."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.ops import conv3x3 as op
from maskrcnn.ops import vectors
from maskrcnn.ops.conv3x3 import conv3x3, cpu, reference, strided, winograd

SIDES = st.integers(1, 11)


@pytest.fixture(autouse=True)
def small_cases_too(monkeypatch):
    monkeypatch.setattr(op, "MIN_CHANNELS", 32)
    monkeypatch.setattr(op, "MIN_TILES", 0)
    monkeypatch.setattr(op, "MIN_PIXELS", vectors.ROWS)


def arguments(batch, channels, outputs, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return x, weight, torch.randn(outputs, generator=generator)


def assert_close(found, expected):
    """To 2e-5 of the largest entry."""
    assert found.shape == expected.shape
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=0, atol=2e-5 * float(expected.detach().abs().max())
    )


def in_float64(x, weight, bias, relu, stride=1):
    return reference.conv3x3(x.double(), weight.double(), bias.double(), stride, relu)


@given(st.integers(1, 3), SIDES, SIDES, st.sampled_from([32, 64, 96]), st.sampled_from([32, 64]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_it_is_the_convolution_of_the_definition(batch, height, width, channels, outputs, relu):
    case = arguments(batch, channels, outputs, height, width)
    assert_close(conv3x3(*case, relu=relu), in_float64(*case, relu))


@given(st.integers(5, 23), st.integers(5, 23), st.sampled_from([32, 96]), st.sampled_from([32, 64]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_stride_leaves_out_pixels(height, width, channels, outputs, relu):
    case = arguments(2, channels, outputs, height, width)
    assert_close(conv3x3(*case, stride=2, relu=relu), in_float64(*case, relu, 2))


def matrix(formula, num_inputs):
    """Of a linear formula: what it makes of each unit vector, in columns."""
    return np.array(formula(*np.eye(num_inputs)))


def test_six_inputs_and_three_weights_at_points_give_four_neighbours_of_their_correlation():
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=6), rng.normal(size=3)
    products = np.array(winograd.of_inputs(*inputs)) * winograd.of_weights(*weights)
    np.testing.assert_allclose(winograd.to_outputs(*products), np.correlate(inputs, weights), atol=1e-12)


def test_formulas_of_gradients_are_transposes():
    np.testing.assert_array_equal(matrix(winograd.of_gradients, 4), matrix(winograd.to_outputs, 6).T)
    np.testing.assert_allclose(matrix(winograd.to_weights, 6), matrix(winograd.of_weights, 3).T, atol=1e-15)


def test_many_blocks_of_tiles_fit_together():
    case = arguments(3, 32, 64, 50, 77)
    assert cpu.num_tiles(case[0].shape) > 2 * cpu.GRADIENT_BLOCK > cpu.BLOCK
    assert_close(conv3x3(*case), in_float64(*case, False))
    leaves = [tensor.double().requires_grad_() for tensor in case]
    reference.conv3x3(*leaves, 1, False).square().sum().backward()
    grad = 2 * in_float64(*case, False).float()
    assert_close(torch.ops.maskrcnn.conv3x3_weight_gradient(grad, case[0], 1), leaves[1].grad)


@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_no_bit(stride, monkeypatch):
    case = arguments(2, 64, 32, 41, 30)

    def results():
        y = conv3x3(*case, stride=stride)
        return y, torch.ops.maskrcnn.conv3x3_weight_gradient(y, case[0], stride)

    found = results()
    for module in (cpu, strided):
        monkeypatch.setattr(module, "parallel_for", lambda work, count, smallest=1: work(0, count))
    alone = results()
    assert all(map(torch.equal, found, alone))


def test_one_weight_moves_the_picture_by_a_pixel():
    """By hand: the weight right of the centre brings the right neighbour, and zeros from beyond the border."""
    x = arguments(1, 32, 32, 5, 7)[0]
    weight = torch.zeros(32, 32, 3, 3)
    weight[range(32), range(32), 1, 2] = 1.0
    assert_close(conv3x3(x, weight), F.pad(x, (0, 1))[..., 1:])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("stride", "height", "width"), [(1, 9, 14), (2, 9, 14), (2, 32, 35)])
def test_gradients_are_those_of_the_definition(stride, height, width, relu):
    leaves = [tensor.requires_grad_() for tensor in arguments(2, 32, 64, height, width)]
    y = conv3x3(*leaves, stride=stride, relu=relu)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    upstream = torch.where(y.abs() > 1e-3, upstream, 0.0)  # nothing that rounding turns at the ReLU
    found = torch.autograd.grad(y, leaves, upstream)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(reference.conv3x3(*exact, stride, relu), exact, upstream.double())
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


def test_only_gradients_that_are_wanted_are_computed(monkeypatch):
    x, weight, bias = arguments(1, 32, 32, 6, 6)
    monkeypatch.setattr(cpu, "weight_gradient", lambda *_: pytest.fail("not wanted"))
    conv3x3(x.requires_grad_(), weight, bias).sum().backward()
    assert x.grad is not None


def test_what_it_is_not_made_for_runs_directly(monkeypatch):
    monkeypatch.setattr(cpu, "forward", lambda *_: pytest.fail("not made for this"))
    x, weight, bias = arguments(1, 32, 32, 6, 6)
    few, uneven = arguments(1, 16, 64, 6, 6), arguments(1, 64, 81, 6, 6)
    for case in (few, uneven, [tensor.double() for tensor in (x, weight, bias)]):
        assert_close(conv3x3(*case), in_float64(*case, False))
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3(x, weight, bias).dtype == torch.bfloat16


def test_few_tiles_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(op, "MIN_TILES", 7)
    monkeypatch.setattr(cpu, "forward", lambda *_: pytest.fail("not worth it"))
    x, weight, bias = arguments(1, 32, 32, 8, 12)
    x = x.contiguous(memory_format=torch.channels_last)
    case = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    y = conv3x3(*case)
    assert_close(y, in_float64(*case, False))
    assert y.is_contiguous(memory_format=torch.channels_last)
    exact = [tensor.detach().double().requires_grad_() for tensor in case]
    gradients = torch.autograd.grad(reference.conv3x3(*exact, 1, False).sum(), exact)
    for one, other in zip(torch.autograd.grad(y.sum(), case), gradients, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "outputs", "height"), [(64, 32, 14), (160, 96, 14), (160, 96, 50)])
def test_weights_that_outweigh_the_tiles_are_transformed_on_the_way(channels, outputs, height, layout, monkeypatch):
    """Both ways, of weights in any order in memory, more than a group of them; tiles are no multiple of rows."""
    x, weight, bias = arguments(1, channels, outputs, height, 13)
    weight = weight.contiguous(memory_format=layout)
    are_few = cpu.num_tiles(x.shape) * cpu.CHANNELS_PER_TILE <= channels
    assert are_few == (height == 14)
    other = "_convolve_many" if are_few else "_convolve_few"
    monkeypatch.setattr(cpu, other, lambda *_: pytest.fail("the other way"))
    assert_close(conv3x3(x, weight, bias, relu=True), in_float64(x, weight, bias, True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("height", [6, 50])
def test_the_gradient_of_the_input_takes_weights_in_any_order(height, layout):
    x, weight, bias = arguments(1, 96, 64, height, 13)
    leaf = x.double().requires_grad_()
    y = in_float64(leaf, weight, bias, False)
    y.square().sum().backward()
    grad = 2 * y.detach().float()
    assert_close(torch.ops.maskrcnn.conv3x3_input_gradient(grad, weight.contiguous(memory_format=layout)), leaf.grad)


def test_not_a_number_passes_through_the_relu():
    x, weight, bias = arguments(1, 32, 32, 4, 4)
    x[0, 0, 0, 0] = torch.nan
    assert conv3x3(x, weight, bias, relu=True).isnan().any()


def test_nothing_in_gives_nothing_out():
    x, weight, bias = arguments(0, 32, 64, 14, 14)
    assert conv3x3(x, weight, bias).shape == (0, 64, 14, 14)


@pytest.mark.parametrize("stride", [1, 2])
def test_compilers_see_one_node(stride):
    x, weight, bias = arguments(2, 32, 32, 6, 9)
    torch.library.opcheck(torch.ops.maskrcnn.conv3x3, (x.requires_grad_(), weight, bias, stride, True))
    grad = torch.randn(2, 32, -(-6 // stride), -(-9 // stride))
    torch.library.opcheck(torch.ops.maskrcnn.conv3x3_weight_gradient, (grad, x.detach(), stride))
