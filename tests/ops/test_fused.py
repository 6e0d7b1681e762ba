"""Torch's convolutions that end in what follows them."""

import pytest
import torch
import torch.nn.functional as F

from maskrcnn.ops import fused

BF16 = pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not fused.HAS_BF16, reason="no bf16 in torch's library"))
pytestmark = pytest.mark.skipif(not fused.HAS_FLOAT32, reason="torch was built without its library")


def arguments(dtype, side=3, groups=1, stride=1):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 7, 10, generator=generator)
    weight = torch.randn(12, 8 // groups, side, side, generator=generator) / (8 // groups * side**2) ** 0.5
    residual = torch.randn(2, 12, -(-7 // stride), -(-10 // stride), generator=generator)
    return [one.to(dtype) for one in (x, weight, torch.randn(12, generator=generator), residual)]


def exactly(x, weight, bias, residual, *, stride=1, groups=1, relu=False):
    y = F.conv2d(x.double(), weight.double(), bias.double(), stride, weight.shape[2] // 2, groups=groups)
    y = y if residual is None else y + residual.double()
    return F.relu(y) if relu else y


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize(("side", "stride", "groups"), [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 2), (7, 2, 1)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("has_residual", [False, True])
def test_it_is_convolution_sum_and_relu_rounded_once_without_groups(dtype, side, stride, groups, relu, has_residual):
    x, weight, bias, residual = arguments(dtype, side, groups, stride)
    residual = residual if has_residual else None
    y = fused.convolution(x, weight, bias, residual, stride=stride, groups=groups, relu=relu)
    expected = exactly(x, weight, bias, residual, stride=stride, groups=groups, relu=relu)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    roundings = 1 if residual is None or groups == 1 else 2
    error = 8e-6 if dtype == torch.float32 else roundings * 2**-8
    torch.testing.assert_close(y.double(), expected, rtol=error, atol=error * float(expected.abs().max()) / 8)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_a_border_may_be_told(dtype):
    x, weight, bias, _ = arguments(dtype)
    y = fused.convolution(x, weight, bias, stride=2, padding=0)
    assert y.shape == (2, 12, 3, 4)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), 2)
    torch.testing.assert_close(y.double(), expected, rtol=2**-7, atol=2**-7)


def test_arguments_stay_as_they_are():
    case = arguments(torch.float32)
    copies = [one.clone() for one in case]
    fused.convolution(*case, relu=True)
    assert all(torch.equal(one, other) for one, other in zip(case, copies, strict=True))


def test_it_suits_what_does_not_learn_in_one_number_type():
    x, weight, bias, residual = arguments(torch.float32)
    assert fused.suits(x, weight, bias, residual)
    assert fused.suits(x, weight, None)
    assert not fused.suits(x.double(), weight.double())
    assert not fused.suits(x, weight.bfloat16())
    assert not fused.suits(x.to("meta"), weight.to("meta"))
    assert fused.suits(x.bfloat16(), weight.bfloat16()) == fused.HAS_BF16
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.suits(x, weight)  # autocast would have it in bf16
    weight.requires_grad_()
    assert not fused.suits(x, weight)
    with torch.no_grad():
        assert fused.suits(x, weight)


def test_compilers_see_one_node():
    for residual in (None, arguments(torch.float32)[3]):
        case = (*arguments(torch.float32)[:3], residual, 1, 1, True, 1)
        torch.library.opcheck(torch.ops.maskrcnn.fused_convolution, case)
