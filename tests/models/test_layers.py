import pytest
import torch
from torch import nn

from maskrcnn import config
from maskrcnn.models import layers
from maskrcnn.models.fpn import FPN
from maskrcnn.models.layers import BatchNorm, Conv, Depthwise, Doubling, FrozenBatchNorm, GroupNorm, folded
from maskrcnn.models.mask_rcnn import build_backbone
from maskrcnn.models.resnet import ResNet
from maskrcnn.ops import fused

STRIDES = (4, 8, 16, 32)


def test_a_frozen_norm_folded_into_the_weights_equals_batch_norm_behind_the_convolution():
    conv = Conv(3, 5, 3, stride=2, norm="frozen_batch_norm", relu=True)
    reference = torch.nn.BatchNorm2d(5).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = torch.rand(5) + 0.5
        getattr(conv.norm, name).copy_(value)
        getattr(reference, name).data.copy_(value)
    x = torch.randn(2, 3, 9, 14)
    plain = torch.nn.functional.conv2d(x, conv.weight, None, 2, 1)
    torch.testing.assert_close(conv(x), reference(plain).relu(), rtol=1e-5, atol=1e-5)


def test_a_live_batch_norm_learns_from_the_batch_and_folds_when_it_rests():
    conv = Conv(3, 5, 3, norm="batch_norm", relu=True)
    x = torch.randn(4, 3, 9, 14) * 2 + 1
    reference = torch.nn.BatchNorm2d(5)
    plain = torch.nn.functional.conv2d(x, conv.weight, None, 1, 1)
    torch.testing.assert_close(conv(x), reference(plain).relu())
    torch.testing.assert_close(conv.norm.running_var, reference.running_var)
    conv.eval(), reference.eval()
    torch.testing.assert_close(conv(x), reference(plain).relu(), rtol=1e-5, atol=1e-5)


def test_what_is_frozen_keeps_its_statistics_in_training():
    conv = Conv(3, 5, 3, norm="batch_norm").requires_grad_(False)
    conv(torch.randn(2, 3, 8, 8))
    assert conv.norm.running_mean.tolist() == [0.0] * 5


def test_fixed_statistics_stay_while_scale_and_shift_are_trained():
    """As torch's batch norm in evaluation, whose scale and shift have gradients."""
    conv, reference = Conv(3, 5, 3, norm="fixed_batch_norm", relu=True), torch.nn.BatchNorm2d(5).eval()
    assert conv.norm.state_dict().keys() == reference.state_dict().keys()
    for norm in (conv.norm, reference):
        with torch.no_grad():
            for number, tensor in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
                tensor.copy_(torch.linspace(0.5, 1.5, 5) + number)
    x = torch.randn(2, 3, 8, 9)
    conv(x).square().sum().backward()
    plain = torch.nn.functional.conv2d(x, conv.weight.detach(), None, 1, 1)
    reference(plain).relu().square().sum().backward()
    torch.testing.assert_close(conv.norm.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(conv.norm.bias.grad, reference.bias.grad, rtol=1e-4, atol=1e-4)
    assert torch.equal(conv.norm.running_mean, reference.running_mean)
    assert conv.norm.num_batches_tracked == 0


def test_moments_of_shares_of_several_sizes_are_those_of_the_whole(monkeypatch):
    """Far from zero, where the difference of two large sums would have no digits left."""
    x = torch.randn(6, 3, 4, 5) + torch.tensor([0.0, 100.0, 1000.0])[:, None, None]
    shares = [x[:1], x[1:3, :, :2], x[1:3, :, 2:], x[3:]]
    rows = []
    monkeypatch.setattr(layers, "gather", lambda row: rows.append(row) or row[None])
    for share in shares:
        layers.joint_moments(share)
    monkeypatch.setattr(layers, "gather", lambda _: torch.stack(rows))
    mean, variance, count = layers.joint_moments(shares[0])
    expected = x.double().transpose(0, 1).flatten(1)
    assert count == 6 * 4 * 5
    torch.testing.assert_close(mean.double(), expected.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), expected.var(1, correction=0), rtol=1e-5, atol=0)


def test_a_synchronised_norm_of_one_process_is_batch_norm():
    torch.manual_seed(0)
    ours, theirs = Conv(3, 5, 3, norm="sync_batch_norm"), Conv(3, 5, 3, norm="batch_norm")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 9)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.norm.running_var, theirs.norm.running_var)


def test_a_resnext_cuts_its_middle_convolutions_into_groups():
    block = ResNet(config.Backbone(kind="resnext50_32x4d")).res3[0]
    assert block.conv2.weight.shape == (256, 8, 3, 3)  # 128 * 4 / 64 * 32 channels in 32 groups
    assert block.conv3.weight.shape == (512, 256, 1, 1)


def test_the_stride_is_in_the_first_or_the_second_convolution():
    blocks = [
        ResNet(config.Backbone(kind="resnet50", norm="frozen_batch_norm", width=8, stride_in_1x1=first)).res3[0]
        for first in (False, True)
    ]
    assert [(block.conv1.stride, block.conv2.stride) for block in blocks] == [((1, 1), (2, 2)), ((2, 2), (1, 1))]


def test_pooling_at_the_end_starts_at_the_first_pixel():
    resnet = ResNet(config.Backbone(kind="resnet18", norm="frozen_batch_norm", width=1, stem_pool="end"))
    resnet.stem = torch.nn.Identity()
    resnet.res2 = resnet.res3 = resnet.res4 = resnet.res5 = torch.nn.Identity()
    x = torch.tensor([[1.0, 2.0, 3.0, 9.0], [0.0, 0.0, 0.0, 0.0]]).expand(1, 3, 2, 4)
    assert resnet(x)[0][0, 0].tolist() == [[3.0, 9.0]]  # columns 0..2 and 2..4; centred it would be -1..1 and 1..3
    resnet.pool_at_end = False
    assert resnet(x)[0][0, 0].tolist() == [[2.0, 9.0]]


def test_frozen_norms_are_no_parameters():
    assert [name for name, _ in Conv(3, 5, 1, norm="frozen_batch_norm").named_parameters()] == ["weight"]


def test_group_norm_never_normalises_a_single_channel():
    assert GroupNorm(256).num_groups == 32
    assert GroupNorm(16).num_groups == 8


@pytest.mark.parametrize(("channels", "groups"), [(96, 32), (48, 24), (100, 25), (70, 14), (7, 1), (1, 1)])
def test_any_width_can_be_normalised_in_groups(channels, groups):
    assert GroupNorm(channels).num_groups == groups


@pytest.mark.parametrize(("depth", "channels"), [(18, [64, 128, 256, 512]), (50, [256, 512, 1024, 2048])])
def test_resnet_gives_strides_4_to_32(depth, channels):
    with torch.device("meta"):
        features = ResNet(config.Backbone(kind=f"resnet{depth}", norm="frozen_batch_norm"))(torch.zeros(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]


def test_frozen_stages_are_counted_from_the_stem():
    resnet = build_backbone(config.Backbone(kind="resnet18", norm="group_norm", width=8, frozen_stages=2))
    trained = {name.split(".")[0] for name, p in resnet.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}


def test_the_pyramid_has_one_width_and_one_more_level():
    pyramid = FPN([8, 16, 32, 64], STRIDES, 12)([torch.zeros(1, 8 * 2**i, 32 >> i, 64 >> i) for i in range(4)])
    assert [tuple(p.shape[1:]) for p in pyramid] == [(12, 32, 64), (12, 16, 32), (12, 8, 16), (12, 4, 8), (12, 2, 4)]


def test_bilinear_doubling_mixes_neighbouring_cells():
    fpn = FPN([1, 1, 1, 1], STRIDES, 1, upsample="bilinear")
    for conv in (*fpn.lateral, *fpn.output):
        torch.nn.init.dirac_(conv.weight)
    features = [torch.zeros(1, 1, 16 >> i, 32 >> i) for i in range(4)]
    features[3][0, 0, 0, :2] = torch.tensor([0.0, 4.0])
    assert fpn(features)[2][0, 0, 0, :4].tolist() == [0.0, 1.0, 3.0, 3.0]


@pytest.mark.parametrize("channels", [3, 32])
def test_a_doubling_arranged_is_a_transposed_convolution(channels):
    doubling = Doubling(channels, 64)
    nn.init.normal_(doubling.bias)
    x = torch.randn(7, channels, 6, 10)
    expected = torch.nn.functional.conv_transpose2d(x, doubling.weight, doubling.bias, stride=2).relu()
    torch.testing.assert_close(doubling.arranged(doubling(x)), expected, rtol=1e-4, atol=1e-5)


def test_coarse_features_reach_the_finest_level():
    fpn = FPN([4, 4, 4, 4], STRIDES, 6)
    features = [torch.zeros(1, 4, 32 >> i, 64 >> i) for i in range(4)]
    features[3] = torch.ones(1, 4, 4, 8, requires_grad=True)
    fpn(features)[0].sum().backward()
    assert features[3].grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", ["frozen_batch_norm", "batch_norm", "group_norm", None])
def test_a_folded_network_gives_the_same_bits_with_less_work(norm, dtype):
    torch.manual_seed(0)
    network = nn.Sequential(
        Conv(3, 16, 3, stride=2, norm=norm, same=True),
        Depthwise(16, 3, norm=norm),
        Conv(16, 8, 3, norm=norm, relu=True),
        Conv(8, 4, 1, norm=norm),
        nn.ConvTranspose2d(4, 2, 2),
    )
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2.0) if "var" in name else buffer.normal_()
    network.eval()
    x = torch.randn(2, 3, 5, 7)
    less = folded(network, dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        assert torch.equal(less(x), network(x))
    assert not any(isinstance(module, FrozenBatchNorm | BatchNorm) for module in less.modules())
    assert not any(parameter.requires_grad for parameter in less.parameters())
    assert (less[0].weight.dtype, less[1].weight.dtype) == (dtype, torch.float32)
    assert network[0].weight.dtype == torch.float32
    assert (network[0].norm is None) == (norm is None)


@pytest.fixture
def residual_block():
    """A folded-to-be block with batch norms that change something, 64 channels and 24 tiles of pixels."""
    torch.manual_seed(0)
    block = nn.Sequential(Conv(64, 64, 3, norm="frozen_batch_norm", relu=True), Conv(64, 64, 1, norm="group_norm"))
    for name, buffer in block.named_buffers():
        buffer.uniform_(0.5, 2.0) if "var" in name else buffer.normal_()
    return block.eval(), torch.randn(1, 64, 16, 24)


@torch.no_grad()
def test_a_widened_network_keeps_to_float32_in_3_by_3_convolutions_alone(residual_block):
    block, x = residual_block
    widened, plain = folded(block, torch.bfloat16, widened=True), folded(block, torch.bfloat16)
    assert (widened[0].weight.dtype, widened[1].weight.dtype) == (torch.float32, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert widened[0](x.bfloat16()).dtype == torch.bfloat16
        first, other = widened[0](x.bfloat16()), plain[0](x.bfloat16())
    exact = folded(block)[0](x.bfloat16().float())
    torch.testing.assert_close(first, exact.bfloat16(), rtol=2**-7, atol=1e-4)
    assert (first - exact).abs().mean() <= (other - exact).abs().mean()


@pytest.mark.parametrize(
    ("conv", "widened"),
    [
        (Conv(64, 96, 3), True),
        (Conv(64, 64, 3, stride=2), False),
        (Conv(64, 64, 3, groups=2), False),
        (Conv(64, 64, 1), False),
        (Conv(32, 64, 3), False),
        (Conv(64, 80, 3), False),
    ],
)
def test_those_are_widened_that_have_a_kernel_with_fewer_products(conv, widened):
    assert folded(conv, torch.bfloat16, widened=True).widened == widened
    assert not folded(conv, torch.bfloat16).widened


@torch.no_grad()
def test_a_residual_in_bf16_is_rounded_with_the_sum():
    torch.manual_seed(0)
    conv = Conv(64, 64, 1, relu=True)
    x, residual = torch.randn(1, 64, 9, 14).bfloat16(), torch.randn(1, 64, 9, 14).bfloat16()
    half = folded(conv, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = half(x, residual)
    weight, bias = half.weight.double(), half.bias.double()
    exact = nn.functional.relu(nn.functional.conv2d(x.double(), weight, bias) + residual.double())
    if fused.HAS_BF16:
        torch.testing.assert_close(y, exact.bfloat16(), rtol=2**-8, atol=1e-6)  # half a step, where products cancel
    assert y.dtype == torch.bfloat16
