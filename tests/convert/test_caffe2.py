"""Backbones in Caffe2's names: places, channel order, and norms without statistics."""

import re

import pytest
import torch

from maskrcnn import config
from maskrcnn.convert.caffe2 import rename
from maskrcnn.models.mask_rcnn import build
from maskrcnn.models.resnet import ResNet


def backbone(name="resnet50", norm="frozen_batch_norm"):
    model = config.Model(
        backbone=config.Backbone(kind=name, norm=norm, width=64, pretrained="", frozen_stages=0),
        neck=config.Neck(channels=8),
    )
    with torch.device("meta"):
        return build(model, 1).backbone


def caffe2(network, norm="bn"):
    """Random tensors under Caffe2's names, without statistics of norms, and with what else its files hold."""
    state = {
        "conv1_b": torch.rand(64),
        "fc1000_w": torch.rand(10, 8),
        "fc1000_b": torch.rand(10),
        "pred_w": torch.rand(9),
    }
    for name, tensor in network.state_dict().items():
        if "running" in name:
            continue
        name = re.sub(r"^stem\.norm", f"{'res_' if norm == 'bn' else ''}conv1_{norm}", name)
        name = re.sub(r"^stem", "conv1", name)
        name = re.sub(r"^(res\d)\.(\d+)\.shortcut", r"\1_\2_branch1", name)
        name = re.sub(r"^(res\d)\.(\d+)\.conv(\d)", lambda m: f"{m[1]}_{m[2]}_branch2{'abc'[int(m[3]) - 1]}", name)
        name = re.sub(r"\.norm\.weight$|_(bn|gn)\.weight$", f"_{norm}_s", name)
        name = re.sub(r"\.norm\.bias$|_(bn|gn)\.bias$", f"_{norm}_b", name)
        state[re.sub(r"\.weight$", "_w", name)] = torch.rand(tensor.shape)
    return state


def test_names_are_worked_out_by_hand():
    state = caffe2(backbone())
    assert {
        "conv1_w",
        "res_conv1_bn_s",
        "res2_0_branch2a_w",
        "res2_0_branch1_bn_b",
        "res4_5_branch2c_bn_s",
    } <= state.keys()
    found = rename(state)
    assert torch.equal(found["stem.norm.weight"], state["res_conv1_bn_s"])
    assert torch.equal(found["res2.0.conv1.weight"], state["res2_0_branch2a_w"])
    assert torch.equal(found["res2.0.shortcut.norm.bias"], state["res2_0_branch1_bn_b"])
    assert torch.equal(found["res4.5.conv3.norm.weight"], state["res4_5_branch2c_bn_s"])


@pytest.mark.parametrize(
    ("name", "norm", "word"),
    [
        ("resnet50", "frozen_batch_norm", "bn"),
        ("resnet101", "frozen_batch_norm", "bn"),
        ("resnext101_32x8d", "frozen_batch_norm", "bn"),
        ("resnet50", "group_norm", "gn"),
    ],
)
def test_every_tensor_of_a_backbone_finds_its_place(name, norm, word):
    network = backbone(name, norm)
    found = rename(caffe2(network, word))
    assert {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in network.state_dict().items()}


def test_a_stem_for_blue_green_red_less_the_mean_becomes_one_for_pixels_of_our_recipes():
    state = caffe2(backbone())
    pixels = torch.rand(1, 3, 32, 48) * 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.Data().mean, config.Data().std))
    theirs = torch.nn.functional.conv2d((pixels - mean).flip(1), state["conv1_w"])
    ours = torch.nn.functional.conv2d((pixels - mean) / std, rename(state)["stem.weight"])
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-2)


def test_the_stem_of_a_resnext_was_fed_divided_pixels():
    state = caffe2(backbone("resnext101_32x8d"))
    assert torch.equal(rename(state)["stem.weight"], state["conv1_w"].flip(1))


def test_a_norm_without_statistics_scales_and_shifts_alone():
    network = ResNet(config.Backbone(kind="resnet50", norm="frozen_batch_norm"))
    state = caffe2(network)
    network.load_state_dict(rename(state))
    scale, shift = network.res3[0].conv2.norm.scale_and_shift()
    assert torch.allclose(scale, state["res3_0_branch2b_bn_s"], rtol=1e-6)
    assert torch.equal(shift, state["res3_0_branch2b_bn_b"])


def test_statistics_in_the_file_are_kept():
    state = caffe2(backbone()) | {"res_conv1_bn_rm": torch.full((64,), 3.0), "res_conv1_bn_riv": torch.full((64,), 2.0)}
    found = rename(state)
    assert found["stem.norm.running_mean"][7] == 3
    assert found["stem.norm.running_var"][7] == 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("res_conv1_bn_gamma", "stem.norm.weight"),
        ("res_conv1_bn_running_var", "stem.norm.running_var"),
        ("conv1_gn_beta", "stem.norm.bias"),
        ("res2_0_branch1_bn_running_mean", "res2.0.shortcut.norm.running_mean"),
        ("res4_22_branch2a_bn_beta", "res4.22.conv1.norm.bias"),
        ("res5_2_branch2c_bn_riv", "res5.2.conv3.norm.running_var"),
    ],
)
def test_a_norm_is_spelled_in_more_than_one_way(theirs, ours):
    assert ours in rename({"conv1_w": torch.rand(64, 3, 7, 7), theirs: torch.rand(64)})


def test_torchvisions_backbone_in_detectron2s_names_stays_as_it_is():
    state = {
        name.replace("stem.", "stem.conv1.", 1): torch.rand(x.shape) for name, x in backbone().state_dict().items()
    }
    found = rename(state | {"stem.fc.weight": torch.rand(9), "stem.conv1.norm.num_batches_tracked": torch.tensor(5)})
    assert found.keys() == backbone().state_dict().keys()
    assert torch.equal(found["stem.weight"], state["stem.conv1.weight"])


def test_other_names_are_refused():
    with pytest.raises(ValueError, match=r"expected a ResNet of Caffe2 .* received encoder.weight"):
        rename({"encoder.weight": torch.zeros(1)})
