"""Group norm: torch's own in float64 is the referee; the kernels run where it is slow."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.ops.group_norm import cpu, group_norm

SHAPES = [  # (B, C, H, W), groups
    ((2, 16, 5, 9), 8),
    ((1, 6, 7, 3), 6),  # groups of one channel
    ((3, 24, 4, 11), 3),  # groups of eight
    ((1, 10, 40, 97), 5),  # several blocks, the last one shorter
    ((4, 64, 24, 40), 32),
]


def inputs(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(shape, generator=generator).to(dtype, memory_format=torch.channels_last) for _ in range(2))
    weight, bias = (torch.randn(shape[1], generator=generator) for _ in range(2))
    return x, weight, bias, grad


def with_gradients(function, x, weight, bias, grad):
    leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, grad.to(y.dtype))


def expected(x, weight, bias, grad, groups, relu, eps=1e-5):
    def normalise(*tensors):
        y = F.group_norm(tensors[0], groups, *tensors[1:], eps)
        return F.relu(y) if relu else y

    return with_gradients(normalise, *(tensor.double() for tensor in (x, weight, bias, grad)))


def close(found, wanted, tolerance):
    """In units of the largest expected number: sums cancel."""
    return (found.double() - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_result_and_gradients_equal_group_norm_in_float64(shape, groups, relu):
    tensors = inputs(shape)
    found = with_gradients(lambda *t: group_norm(*t, groups=groups, relu=relu), *tensors)
    for one, other in zip(found, expected(*tensors, groups, relu), strict=True):
        assert close(one, other, 1e-5)


def test_one_pixel_is_normalised_over_the_channels_of_its_group():
    tensors = inputs((2, 8, 1, 1))
    found = with_gradients(lambda *t: group_norm(*t, groups=2), *tensors)
    for one, other in zip(found, expected(*tensors, 2, False), strict=True):
        assert close(one, other, 1e-5)


@pytest.mark.parametrize("relu", [False, True])
def test_bfloat16_with_float32_weights_is_as_exact_as_its_storage(relu):
    tensors = inputs((2, 32, 24, 40), torch.bfloat16)
    y, x_grad, weight_grad, bias_grad = with_gradients(lambda *t: group_norm(*t, groups=8, relu=relu), *tensors)
    assert (y.dtype, x_grad.dtype, weight_grad.dtype, bias_grad.dtype) == (torch.bfloat16,) * 2 + (torch.float32,) * 2
    wanted = expected(*tensors, 8, relu)
    assert torch.equal(y, wanted[0].float().to(torch.bfloat16)) or close(y, wanted[0], 2**-9)
    assert close(x_grad, wanted[1], 2**-8)
    assert close(weight_grad, wanted[2], 1e-5)
    assert close(bias_grad, wanted[3], 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types_go_through_the_definition(dtype):
    x, weight, bias, _ = inputs((2, 8, 5, 3), dtype)
    y = group_norm(x, weight.to(dtype), bias.to(dtype), groups=4, relu=True)
    assert y.dtype == dtype
    wanted = F.group_norm(x.double(), 4, weight.to(dtype).double(), bias.to(dtype).double()).relu()
    assert close(y, wanted, 1e-3 if dtype == torch.float16 else 1e-12)


def test_weights_in_bfloat16_get_gradients_in_bfloat16():
    x, weight, bias, grad = inputs((2, 8, 5, 3), torch.bfloat16)
    tensors = (x, weight.bfloat16(), bias.bfloat16(), grad)
    found = with_gradients(lambda *t: group_norm(*t, groups=2), *tensors)
    assert [tensor.dtype for tensor in found] == [torch.bfloat16] * 4


def test_values_far_from_zero_keep_their_spread():
    x, weight, bias, grad = inputs((2, 8, 30, 50))
    tensors = (1000 + 0.1 * x, weight, bias, grad)
    found = with_gradients(lambda *t: group_norm(*t, groups=4, eps=0.0), *tensors)
    for one, other in zip(found, expected(*tensors, 4, False, eps=0.0), strict=True):
        assert close(one, other, 1e-3)


def test_a_first_pixel_far_off_does_not_spoil_the_statistics():
    x, weight, bias, grad = inputs((1, 8, 30, 50))
    x[0, :, 0, 0] = 1e4
    found = group_norm(x, weight, bias, groups=4)
    assert close(found, expected(x, weight, bias, grad, 4, False)[0], 1e-5)


def test_constant_groups_give_the_bias_and_no_gradient_to_the_weight():
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    y = group_norm(torch.full((1, 2, 3, 5), 7.0), weight, torch.tensor([-1.0, 4.0]), groups=1)
    assert torch.equal(y[0, :, 1, 2], torch.tensor([-1.0, 4.0]))
    y.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(2))


def test_two_by_hand():
    x = torch.tensor([[[[1.0, 5.0]], [[3.0, 3.0]]]])  # one group: mean 3, variance 2
    y = group_norm(x, torch.tensor([1.0, 10.0]), torch.tensor([0.0, 0.5]), groups=1, eps=0.0, relu=True)
    torch.testing.assert_close(y, torch.tensor([[[[0.0, 2.0**0.5]], [[0.5, 0.5]]]]))


@pytest.mark.parametrize("shape", [(0, 8, 5, 3), (2, 8, 0, 3)])
def test_nothing_in_gives_nothing_out_with_gradients_of_zero(shape):
    found = with_gradients(lambda *t: group_norm(*t, groups=4), *inputs(shape))
    assert found[0].shape == found[1].shape == shape
    assert found[2].tolist() == found[3].tolist() == [0.0] * 8


def test_not_a_number_is_not_hidden_by_the_relu():
    x = torch.zeros(1, 4, 2, 3)
    x[0, 0, 1, 1] = torch.nan
    y = group_norm(x, torch.ones(4), torch.zeros(4), groups=2, relu=True)
    assert y[0, :2].isnan().all()
    assert not y[0, 2:].isnan().any()
    assert group_norm(x.bfloat16(), torch.ones(4), torch.zeros(4), groups=2, relu=True)[0, :2].isnan().all()


def test_any_memory_order_comes_back_channels_last_with_the_same_numbers():
    x, weight, bias, grad = inputs((2, 8, 5, 9))
    last = with_gradients(lambda *t: group_norm(*t, groups=4), x, weight, bias, grad)
    first = with_gradients(lambda *t: group_norm(*t, groups=4), x.contiguous(), weight, bias, grad.contiguous())
    for one, other in zip(last, first, strict=True):
        assert torch.equal(one, other)
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in (last[0], first[0], last[1], first[1]))


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(cpu, "WORTH_A_THREAD", 1)
    tensors = inputs((3, 32, 50, 70))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(with_gradients(lambda *t: group_norm(*t, groups=8, relu=True), *tensors))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 5, 9), (1, 8, 1, 1), (0, 8, 5, 9)])
def test_the_operator_keeps_the_rules_of_operators(shape, dtype):
    x, weight, bias, _ = inputs(shape, dtype)
    leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
    torch.library.opcheck(torch.ops.maskrcnn.group_norm.default, (*leaves, 4, 1e-5, True))


def test_forward_and_backward_trace_as_one_graph():
    x, weight, bias, _ = inputs((2, 8, 5, 9), torch.bfloat16)
    with FakeTensorMode() as mode:
        leaves = [mode.from_tensor(tensor).requires_grad_() for tensor in (x, weight, bias)]
        y = group_norm(*leaves, groups=4, relu=True)
        y.float().sum().backward()
    assert (y.shape, y.dtype, y.stride()) == (x.shape, x.dtype, x.stride())
    assert leaves[0].grad.stride() == x.stride()
    function = torch.compile(lambda *t: group_norm(*t, groups=4, relu=True), fullgraph=True, backend="aot_eager")
    tensors = inputs((2, 8, 5, 9))
    for one, other in zip(with_gradients(function, *tensors), expected(*tensors, 4, True), strict=True):
        assert close(one, other, 1e-5)


def test_other_devices_use_the_definition():
    y = group_norm(*(torch.zeros(shape, device="meta") for shape in ((2, 8, 5, 9), (8,), (8,))), groups=4)
    assert y.shape == (2, 8, 5, 9)


def test_wrong_groups_and_weights_are_refused():
    x, weight, bias, _ = inputs((2, 8, 5, 9))
    with pytest.raises(ValueError, match="divide 8 channels, received 3"):
        group_norm(x, weight, bias, groups=3)
    with pytest.raises(ValueError, match=r"of shape \(8,\)"):
        inspect.unwrap(group_norm)(x, weight[:4], bias, groups=4)  # behind the shape checks that tests turn on
