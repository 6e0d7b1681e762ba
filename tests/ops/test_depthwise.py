"""Each channel by itself: torch's own convolution in float64 is the referee, and some pixels are worked out by hand."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.ops import depthwise as op
from maskrcnn.ops.depthwise import cpu, depthwise, reference

SIDES = st.integers(1, 11)
RELU6 = {"before": True, "after": True, "ceiling": 6.0}


def arguments(batch=2, channels=16, height=7, width=10, side=3, dtype=torch.float32, seed=0):
    """Pixels about the middle of a ReLU6, weights and bias."""
    generator = torch.Generator().manual_seed(seed)
    x = (3 + 3 * torch.randn(batch, channels, height, width, generator=generator)).to(dtype)
    weight = torch.randn(channels, 1, side, side, generator=generator) / side
    return x.contiguous(memory_format=torch.channels_last), weight, 2 + torch.randn(channels, generator=generator)


def exactly(x, weight, bias, *, stride=1, before=False, after=False, ceiling=math.inf):
    bias = None if bias is None else bias.double()
    return reference.depthwise(x.double(), weight.double(), bias, stride, before, after, ceiling)


def assert_close(found, expected, tolerance=2e-6):
    """In units of the largest number."""
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=tolerance * scale)


@given(st.integers(1, 3), SIDES, SIDES, st.sampled_from([16, 48]), st.sampled_from(op.KERNELS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_is_the_convolution_of_the_definition(batch, height, width, channels, kernel, relu):
    side, stride = kernel
    case, how = arguments(batch, channels, height, width, side), RELU6 if relu else {}
    y = depthwise(*case, stride=stride, **how)
    assert_close(y, exactly(*case, stride=stride, **how))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_close(depthwise(case[0], case[1], stride=stride), exactly(case[0], case[1], None, stride=stride))


@pytest.mark.parametrize(("side", "stride"), op.KERNELS)
def test_the_border_is_worked_out_by_hand(side, stride):
    """Weights that pick the last tap, which lies some pixels beyond `stride` times the place of the result."""
    x = torch.zeros(1, 16, 4, 6)
    x[0, 0] = torch.arange(24.0).view(4, 6)
    weight = torch.zeros(16, 1, side, side)
    weight[:, 0, -1, -1] = 1.0
    ahead = {(3, 1): 1, (3, 2): 2, (5, 1): 2, (5, 2): 3}[side, stride]
    expected = F.pad(x[0, 0], (0, ahead, 0, ahead))[ahead::stride, ahead::stride][: 4 // stride, : 6 // stride]
    assert torch.equal(depthwise(x, weight, stride=stride)[0, 0], expected)


def test_two_columns_by_hand():
    """Stride 2 and a row of three weights: the first window holds pixels 0, 1 and 2, the second 2, 3 and a zero."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 16, 2, 4)
    weight = torch.zeros(16, 1, 3, 3)
    weight[:, 0, 0] = torch.tensor([1.0, 10.0, 100.0])
    assert depthwise(x, weight, stride=2)[0, 5].tolist() == [[321.0, 43.0]]


def test_relus_on_both_sides_by_hand():
    """Pixels are cut to 0..6, and so is their sum with the bias."""
    x = torch.tensor([[-1.0, 2.0, 7.0], [0.5, 0.0, -3.0]]).expand(1, 16, 2, 3)
    weight = torch.zeros(16, 1, 3, 3)
    weight[:, 0, 1, 1], bias = 1.0, torch.full((16,), 0.25)
    assert depthwise(x, weight, bias, **RELU6)[0, 3].tolist() == [[0.25, 2.25, 6.0], [0.75, 0.25, 0.25]]
    assert depthwise(x, weight, bias - 1, after=True)[0, 3].tolist() == [[0.0, 1.25, 6.25], [0.0, 0.0, 0.0]]


def gradients(function, case, upstream):
    leaves = [tensor.detach().requires_grad_() for tensor in case]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype))


@given(st.integers(1, 2), SIDES, SIDES, st.sampled_from(op.KERNELS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_gradients_are_those_of_the_definition(batch, height, width, kernel, relu):
    side, stride = kernel
    how = {"stride": stride, **(RELU6 if relu else {})}
    case = arguments(batch, 32, height, width, side)
    y = exactly(*case, **how)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    if relu:  # nothing that rounding turns
        upstream = torch.where((y > 1e-4) & (y < 6 - 1e-4), upstream, 0.0)
    found = gradients(lambda *given: depthwise(*given, **how), case, upstream)
    expected = gradients(lambda *given: exactly(*given, **how), [one.double() for one in case], upstream)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize(("side", "stride"), op.KERNELS)
def test_bf16_pixels_meet_float32_weights_and_are_rounded_once(side, stride):
    """The definition is computed in float64, and its result rounded before the last ReLU, whose gradient it decides."""

    def definition(x, weight, bias):
        y = exactly(x, weight, bias, stride=stride, before=True, ceiling=6.0)
        return F.hardtanh(y.to(torch.bfloat16).double(), 0.0, 6.0)

    case = arguments(2, 32, 9, 14, side, torch.bfloat16)
    upstream = torch.randn(definition(*case).shape).bfloat16()
    found = gradients(lambda *given: depthwise(*given, stride=stride, **RELU6), case, upstream)
    assert [one.dtype for one in found] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    expected = gradients(definition, [one.double() for one in case], upstream)
    for one, other, tolerance in zip(found, expected, (2**-8, 2**-8, 1e-5, 1e-5), strict=True):
        assert_close(one, other, tolerance)


def test_autocast_computes_in_its_type():
    x, weight, bias = arguments()
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise(x, weight, bias)
        assert torch.equal(y, depthwise(x.bfloat16(), weight, bias))
    assert y.dtype == torch.bfloat16


def test_only_gradients_that_are_wanted_are_computed(monkeypatch):
    seen, real = [], cpu.backward
    monkeypatch.setattr(cpu, "backward", lambda *given: (seen.append(given[-1]), real(*given))[1])
    x, weight, bias = arguments()
    for learnt in (x, weight, bias):
        learnt.requires_grad_()
        depthwise(x, weight, bias, after=True).sum().backward()
        assert learnt.grad is not None
        learnt.requires_grad_(False)
    assert seen == [(True, False), (False, True)]


@pytest.mark.parametrize(("side", "stride"), op.KERNELS)
def test_threads_change_no_bit(side, stride, monkeypatch):
    monkeypatch.setattr(cpu, "WORTH_A_THREAD", 2**12)
    case = arguments(2, 64, 41, 30, side)
    how = {"stride": stride, **RELU6}
    upstream = torch.randn(depthwise(*case, **how).shape, generator=torch.Generator().manual_seed(2))
    found = gradients(lambda *given: depthwise(*given, **how), case, upstream)
    monkeypatch.setattr(cpu, "parallel_for", lambda work, count, smallest=1: work(0, count))
    alone = gradients(lambda *given: depthwise(*given, **how), case, upstream)
    assert all(map(torch.equal, found, alone))


@pytest.mark.parametrize("dtype", cpu.DTYPES)
def test_not_a_number_passes_through_both_relus(dtype):
    x, weight, bias = arguments(1, dtype=dtype)
    x[0, 2, 3, 4] = torch.nan
    y = depthwise(x, weight, bias, **RELU6)
    assert y[0, 2, 2:5, 3:6].isnan().all()
    assert y.isnan().sum() == 9


def test_what_it_is_not_made_for_runs_by_the_definition(monkeypatch):
    monkeypatch.setattr(cpu, "forward", lambda *_: pytest.fail("not made for this"))
    x, weight, bias = arguments()
    uneven, wide = arguments(channels=24), arguments(side=7)
    for case in (uneven, wide, [one.double() for one in (x, weight, bias)]):
        assert_close(depthwise(*case), exactly(*case))
    assert_close(depthwise(x, weight, stride=3), exactly(x, weight, None, stride=3))


BAD = {
    "weights of fewer channels": lambda x, weight, bias: (x, weight[:16], bias),
    "weights between channels": lambda x, weight, bias: (x, weight.expand(32, 2, 3, 3), bias),
    "a bias of too few": lambda x, weight, bias: (x, weight, bias[:16]),
    "a picture alone": lambda x, weight, bias: (x[0], weight, bias),
}


@pytest.mark.parametrize("wrong", BAD)
def test_shapes_that_disagree_are_left_to_the_definition(wrong):
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        inspect.unwrap(depthwise)(*BAD[wrong](*arguments(channels=32)))


def test_any_order_in_memory_gives_the_same_bits():
    x, weight, bias = arguments(2, 32, 9, 13)
    expected = depthwise(x, weight, bias, **RELU6)
    assert torch.equal(depthwise(x.contiguous(), weight, bias, **RELU6), expected)
    assert torch.equal(depthwise(x[:, :, ::2].clone()[:1], weight, bias), depthwise(x[:1, :, ::2], weight, bias))


def test_nothing_in_gives_nothing_out_with_gradients_of_zero():
    case = arguments(0)
    found = gradients(lambda *given: depthwise(*given, stride=2, **RELU6), case, torch.zeros(0, 16, 4, 5))
    assert found[0].shape == (0, 16, 4, 5)
    assert found[1].shape == (0, 16, 7, 10)
    assert found[2].abs().sum() == found[3].abs().sum() == 0


@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("after", [False, True])
def test_the_operator_keeps_the_rules_of_operators(dtype, after):
    leaves = [one.requires_grad_() for one in arguments(2, 32, 6, 9, 3, dtype)]
    torch.library.opcheck(torch.ops.maskrcnn.depthwise.default, (*leaves, 2, True, after, 6.0))
    x, weight, _ = (leaf.detach() for leaf in leaves)
    grad = torch.randn(2, 32, 3, 5).to(dtype, memory_format=torch.channels_last)
    given = (grad, grad, x, weight, 2, True, after, 6.0, True, True)
    torch.library.opcheck(torch.ops.maskrcnn.depthwise_backward.default, given)


def test_forward_and_backward_trace_as_one_graph():
    case = arguments(2, 32, 6, 9, dtype=torch.bfloat16)
    with FakeTensorMode() as mode:
        leaves = [mode.from_tensor(tensor).requires_grad_() for tensor in case]
        y = depthwise(*leaves, stride=2, **RELU6)
        y.float().sum().backward()
    assert (y.shape, y.dtype) == ((2, 32, 3, 5), torch.bfloat16)
    assert leaves[0].grad.stride() == case[0].stride()
    assert leaves[1].grad.shape == case[1].shape
    function = torch.compile(lambda *given: depthwise(*given, **RELU6), fullgraph=True, backend="aot_eager")
    case, upstream = arguments(2, 32, 6, 9), torch.ones(2, 32, 6, 9)
    eager = gradients(lambda *given: depthwise(*given, **RELU6), case, upstream)
    assert all(map(torch.equal, gradients(function, case, upstream), eager))


def test_other_devices_use_the_definition():
    x, weight, bias = (one.to("meta") for one in arguments())
    assert depthwise(x, weight, bias, stride=2, **RELU6).shape == (2, 16, 4, 5)
