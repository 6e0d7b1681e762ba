import pytest
import torch
from torch import nn

from maskrcnn.config import Backbone, Model, Neck, Optimizer
from maskrcnn.models.mask_rcnn import build
from maskrcnn.train import optimizer as optimizer_module
from maskrcnn.train.optimizer import Average, build_optimizer, load_state_tensors, set_rate, state_tensors

TINY = Model(
    backbone=Backbone(kind="resnet18", norm="batch_norm", width=4, pretrained="", frozen_stages=0),
    neck=Neck(channels=4),
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, (1, 2)), nn.GroupNorm(2, 4), nn.Conv2d(4, 5, 1), nn.GroupNorm(1, 5))
    model[2].requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3, 3, 4)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_norms_have_their_own_decay_and_frozen_weights_have_none(kind):
    model = network()
    optimizer = build_optimizer(model, Optimizer(kind=kind, weight_decay=0.1, weight_decay_norm=0.2))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decays.get(id(p)) for name, p in model.named_parameters()}
    assert found == {
        "0.weight": 0.1,
        "0.bias": 0.1,
        "1.weight": 0.2,
        "1.bias": 0.2,
        "2.weight": None,
        "2.bias": None,
        "3.weight": 0.2,
        "3.bias": 0.2,
    }


def test_the_rate_reaches_every_group():
    optimizer = build_optimizer(network(), Optimizer())
    set_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


@pytest.mark.parametrize("rate_on_device", [False, True])
def test_the_rate_falls_from_the_heads_to_the_stem_stage_by_stage(rate_on_device):
    model = build(TINY, num_classes=2)
    optimizer = build_optimizer(model, Optimizer(layer_decay=0.5), rate_on_device=rate_on_device)
    set_rate(optimizer, 8.0)
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    parts = {"stem": 0.25, "res2": 0.5, "res3": 1.0, "res4": 2.0, "res5": 4.0}
    assert all(rate == parts.get(name.split(".")[1], 8.0) for name, rate in found.items())
    assert set(found.values()) == {*parts.values(), 8.0}
    assert found["backbone.res5.1.conv2.norm.weight"] == 4.0
    assert found["neck.lateral.0.weight"] == found["mask_head.masks.bias"] == 8.0


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_state_goes_by_name_and_training_continues_bit_for_bit(kind):
    settings = Optimizer(kind=kind, lr=0.01)
    model = network()
    optimizer = build_optimizer(model, settings)
    learn(model, optimizer, 2)
    state = state_tensors(optimizer, model)
    other = network()
    other.load_state_dict(model.state_dict())
    resumed = build_optimizer(other, settings)
    load_state_tensors(resumed, other, {name: value.contiguous() for name, value in state.items()})
    learn(model, optimizer)
    learn(other, resumed)
    assert {name.rsplit("/", 1)[0] for name in state} == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("kind", "place"), [("cpu", "cpu"), ("meta", "cpu"), ("cuda", "meta")])
def test_the_count_of_steps_is_where_the_optimizer_looks_for_it(kind, place, monkeypatch):
    """`meta` stands for a device; a fused optimizer wants the count there, torch's default wants it on the CPU."""
    device = torch.device("cpu" if kind == "cpu" else "meta")
    if kind == "cuda":
        monkeypatch.setattr(optimizer_module, "FUSED_ON", ("meta",))
    model = network().to(device)
    optimizer = build_optimizer(model, Optimizer(kind="adamw"))
    saved = {"0.bias/step": torch.tensor(3.0), "0.bias/exp_avg": torch.ones(4)}
    load_state_tensors(optimizer, model, saved)
    state = optimizer.state[model[0].bias]
    assert (state["step"].device.type, state["exp_avg"].device) == (place, device)


def test_loaded_state_has_the_memory_format_of_its_parameter():
    model = network()
    optimizer = build_optimizer(model, Optimizer())
    load_state_tensors(optimizer, model, {"0.weight/momentum_buffer": torch.ones(4, 3, 1, 2)})
    assert optimizer.state[model[0].weight]["momentum_buffer"].stride() == model[0].weight.stride()


def test_an_average_follows_with_its_decay_and_leaves_the_model_alone():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, decay=0.75)
    nn.init.ones_(model.weight)
    average.update(model, step=1)  # (1 + 1) / (10 + 1) < 0.75
    assert average.model.weight.item() == pytest.approx(9 / 11)
    average.update(model, step=10_000)
    assert average.model.weight.item() == pytest.approx(0.75 * 9 / 11 + 0.25)
    assert (model.weight.item(), model.weight.requires_grad, average.model.weight.requires_grad) == (1, True, False)


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0.75), (1, 2 / 3), (99, 2 / 101)])
def test_a_warm_up_shortens_the_average_in_the_beginning(warmup, decay):
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    average = Average(model, decay=0.75, warmup=warmup)
    nn.init.zeros_(model.weight)
    average.update(model, step=1)
    assert average.model.weight.item() == pytest.approx(decay)


def test_an_average_takes_the_statistics_of_batch_norms_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    average = Average(model, decay=0.9)
    model(torch.ones(2, 3, 5, 5))
    average.update(model, step=1)
    assert average.model[1].num_batches_tracked == 1
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)
    assert average.model[1].running_mean.abs().sum() > 0


def test_an_average_gives_and_takes_its_trained_weights():
    model = network()
    average, other = Average(model, 0.5), Average(model, 0.5)
    nn.init.ones_(model[0].weight)
    average.update(model, step=100)
    other.load({name: value.clone() for name, value in average.tensors().items()})
    assert list(average.tensors()) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert torch.equal(other.model[0].weight, average.model[0].weight)
