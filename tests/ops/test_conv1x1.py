"""A linear layer at each pixel, and what follows it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.ops import conv1x1 as op
from maskrcnn.ops import vectors
from maskrcnn.ops.conv1x1 import conv1x1, cpu, reference

SIDES = st.integers(3, 11)


@pytest.fixture(autouse=True)
def small_cases_too(monkeypatch):
    monkeypatch.setattr(cpu, "MIN_PIXELS", vectors.ROWS)
    monkeypatch.setattr(op, "HAS_WIDE_VECTORS", False)  # ours are tested on every processor


def arguments(batch, channels, outputs, height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, 1, 1, generator=generator) / channels**0.5
    residual = torch.randn(batch, outputs, height, width, generator=generator)
    return x, weight, torch.randn(outputs, generator=generator), residual


def assert_close(found, expected):
    assert found.shape == expected.shape
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=0, atol=2e-6 * float(expected.detach().abs().max())
    )


@given(st.integers(1, 3), SIDES, SIDES, st.sampled_from([32, 96]), st.sampled_from([32, 64]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_it_is_the_convolution_of_the_definition(batch, height, width, channels, outputs, relu):
    x, weight, bias, residual = arguments(batch, channels, outputs, height, width)
    for more in ((None, None), (bias, None), (bias, residual)):
        exact = [None if one is None else one.double() for one in (x, weight, *more)]
        assert_close(conv1x1(x, weight, *more, relu=relu), reference.conv1x1(*exact, 1, relu))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (3, 1)])
def test_fewer_pixels_than_a_block_holds_are_as_good(height, width):
    x, weight, bias, residual = arguments(1, 64, 32, height, width)
    exact = [one.double() for one in (x, weight, bias, residual)]
    assert_close(conv1x1(x, weight, bias, residual, relu=True), reference.conv1x1(*exact, 1, True))


@given(SIDES, SIDES, st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_stride_leaves_out_pixels(height, width, relu):
    x, weight, bias, _ = arguments(3, 64, 32, 2 * height, 2 * width - 1)
    residual = torch.ones(3, 32, height, width)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias, residual)]
    y = conv1x1(*leaves, stride=2, relu=relu)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = reference.conv1x1(*exact, 2, relu)
    assert_close(y, expected)
    upstream = torch.where(y.abs() > 1e-4, 1.0, 0.0)
    gradients = torch.autograd.grad(expected, exact, upstream.double())
    for one, other in zip(torch.autograd.grad(y, leaves, upstream), gradients, strict=True):
        assert_close(one, other)


@given(st.integers(1, 3), SIDES, SIDES, st.sampled_from([16, 40]), st.sampled_from([8, 24, 32]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_channels_in_no_whole_panels_are_left_to_a_product(batch, height, width, channels, outputs, relu):
    x, weight, bias, residual = arguments(batch, channels, outputs, height, width)
    for more in ((None, None), (bias, None), (bias, residual)):
        leaves = [None if one is None else one.requires_grad_() for one in (x, weight, *more)]
        y = conv1x1(*leaves, relu=relu)
        exact = [None if one is None else one.detach().double().requires_grad_() for one in leaves]
        expected = reference.conv1x1(*exact, 1, relu)
        assert_close(y, expected)
        assert y.is_contiguous(memory_format=torch.channels_last)
        upstream = torch.where(y.abs() > 1e-4, 1.0, 0.0)
        learnt, doubled = ([one for one in some if one is not None] for some in (leaves, exact))
        gradients = torch.autograd.grad(expected, doubled, upstream.double())
        for one, other in zip(torch.autograd.grad(y, learnt, upstream), gradients, strict=True):
            assert_close(one, other)


def test_by_hand():
    """Two of the first channel, three of the second, one of bias, and what there was; below zero is zero."""
    x = torch.zeros(1, 32, 2, 3)
    x[0, 0], x[0, 1] = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), -1.0
    weight = torch.zeros(32, 32, 1, 1)
    weight[5, 0], weight[5, 1] = 2.0, 3.0
    residual = torch.zeros(1, 32, 2, 3)
    residual[0, 5, 1] = 0.5
    y = conv1x1(x, weight, torch.ones(32), residual, relu=True)
    assert y[0, 5].tolist() == [[0.0, 2.0, 4.0], [6.5, 8.5, 10.5]]


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_are_those_of_the_definition(relu):
    leaves = [tensor.requires_grad_() for tensor in arguments(2, 32, 64, 5, 7)]
    y = conv1x1(*leaves, relu=relu)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    upstream = torch.where(y.abs() > 1e-4, upstream, 0.0)  # nothing that rounding turns at the ReLU
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(reference.conv1x1(*exact, 1, relu), exact, upstream.double())
    for one, other in zip(torch.autograd.grad(y, leaves, upstream), expected, strict=True):
        assert_close(one, other)


def test_threads_change_no_bit(monkeypatch):
    case = arguments(1, 64, 32, 41, 31)
    found = conv1x1(*case)
    monkeypatch.setattr(cpu, "parallel_for", lambda work, count, smallest=1: work(0, count))
    assert torch.equal(conv1x1(*case), found)


def test_what_it_is_not_made_for_runs_in_pytorch(monkeypatch):
    monkeypatch.setattr(cpu, "forward", lambda *_: pytest.fail("not made for this"))
    for case in (arguments(1, 32, 12, 6, 6), [tensor.double() for tensor in arguments(1, 32, 32, 6, 6)]):
        assert_close(conv1x1(*case), reference.conv1x1(*[tensor.double() for tensor in case], 1, False))


def test_not_a_number_passes_through_the_relu_where_something_learns():
    x, weight, bias, residual = arguments(1, 32, 32, 4, 4)
    x[0, 0, 0, 0] = torch.nan
    assert conv1x1(x, weight.requires_grad_(), bias, residual, relu=True).isnan().any()


@pytest.mark.parametrize(("has_wide_vectors", "grows", "fused"), [(True, 0, 1), (True, 1, 0), (False, 0, 0)])
def test_predictions_on_wide_vectors_take_torchs_kernel(has_wide_vectors, grows, fused, monkeypatch):
    calls = []
    real = op.fused.convolution
    monkeypatch.setattr(op, "HAS_WIDE_VECTORS", has_wide_vectors)
    monkeypatch.setattr(op.fused, "convolution", lambda *a, **k: calls.append(a) or real(*a, **k))
    x, weight, bias, residual = arguments(2, 32, 64, 6, 9)
    exact = reference.conv1x1(*(one.double() for one in (x, weight, bias, residual)), 1, True)
    assert_close(conv1x1(x, weight.requires_grad_(bool(grows)), bias, residual, relu=True), exact)
    assert len(calls) == (fused if op.fused.HAS_FLOAT32 else 0)


def test_compilers_see_one_node():
    x, weight, bias, residual = arguments(2, 32, 32, 6, 9)
    torch.library.opcheck(torch.ops.maskrcnn.conv1x1, (x.requires_grad_(), weight, bias, residual, True))
