from types import SimpleNamespace

import pytest
import torch
from torch import nn

from maskrcnn.models.layers import BatchNorm
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.precision import Precision, choose_precision
from maskrcnn.structures import ImageBatch, MicroBatch, Targets
from maskrcnn.train.step import Updater

CPU = World(torch.device("cpu"))
FLOAT32 = Precision("cpu", torch.float32)


class Tiny(nn.Module):
    """Losses are means over images, as the real model's are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 2)
        self.unused = nn.Parameter(torch.ones(3))

    def losses(self, images: ImageBatch, targets: Targets, keys: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.layer(images.pixels.flatten(1))
        return {
            "a/first": out[:, 0].square().mean(),
            "count/objects": keys.float().mean() * 1000,
            "b/second": (out[:, 1] - 1).abs().mean(),
        }


def micro_batch(pixels: torch.Tensor) -> MicroBatch:
    count = len(pixels)
    targets = Targets(
        boxes=torch.zeros(count, 1, 4),
        labels=torch.zeros(count, 1, dtype=torch.int64),
        crowd=torch.zeros(count, 1, dtype=torch.bool),
        valid=torch.zeros(count, 1, dtype=torch.bool),
        edges=torch.zeros(count, 1, 4),
        first_edge=torch.zeros(count, 2, dtype=torch.int64),
    )
    keys = torch.arange(count)
    return MicroBatch(ImageBatch(pixels, torch.tensor([[1.0, 2.0]]).expand(count, 2)), targets, keys)


def step(model: Tiny, parts: list[torch.Tensor], lr: float = 0.1, clip_norm: float = 0.0, precision=FLOAT32):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=0.5)
    update = Updater(model, optimizer, world=CPU, precision=precision, clip_norm=clip_norm)
    return update([micro_batch(part) for part in parts])


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(4, 3, 1, 2, generator=torch.Generator().manual_seed(1))


def test_micro_batches_together_move_the_weights_as_the_whole_batch_does(pixels):
    whole, parts = Tiny(), Tiny()
    of_whole, of_parts = step(whole, [pixels]), step(parts, [pixels[:2], pixels[2:]])
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(of_whole.mean[[0, 2, 3]], of_parts.mean[[0, 2, 3]])
    assert of_parts.parts.shape == (2, 3)


class Counted(World):
    """One of two processes, which keeps what it would share."""

    def all_reduce_mean(self, tensors):
        self.__dict__["shared"] = [tensor.clone() for tensor in tensors]


def test_shares_of_different_sizes_together_have_the_gradient_of_the_whole_batch(pixels):
    whole = Tiny()
    told = whole.losses(*micro_batch(pixels))
    (told["a/first"] + told["b/second"]).backward()
    shared = []
    for parts in ([pixels[:1]], [pixels[1:2], pixels[2:]]):
        world = Counted(torch.device("cpu"), size=2)
        model = Tiny()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        Updater(model, optimizer, world=world, precision=FLOAT32, batch=4)([micro_batch(part) for part in parts])
        shared.append(world.shared)
    unused, weight, bias, mean = ((one + other) / 2 for one, other in zip(*shared, strict=True))
    torch.testing.assert_close([weight, bias], [whole.layer.weight.grad, whole.layer.bias.grad])
    assert unused.tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(mean[[0, 2]], torch.stack([told["a/first"], told["b/second"]]).detach())


def test_counts_are_told_but_not_minimised(pixels):
    model = Tiny()
    losses = step(model, [pixels])
    assert losses.names == ("a/first", "count/objects", "b/second", "count/gradient_norm")
    assert losses.mean[1] == 1500
    reference = Tiny()
    told = reference.losses(*micro_batch(pixels))
    (told["a/first"] + told["b/second"]).backward()
    norm = torch.cat([p.grad.flatten() for p in reference.layer.parameters()]).norm()
    torch.testing.assert_close(losses.mean[3], norm.detach())


def test_a_parameter_that_no_loss_reached_has_a_gradient_of_zero_and_decays(pixels):
    model = Tiny()
    step(model, [pixels])
    torch.testing.assert_close(model.unused, nn.Parameter(torch.full((3,), 0.95)))


def test_clipping_bounds_the_whole_gradient(pixels):
    model = Tiny()
    losses = step(model, [100 * pixels], lr=0.0, clip_norm=0.5)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert losses.mean[3] > 1
    assert norm.item() == pytest.approx(0.5, rel=1e-4)


def test_mixed_precision_computes_in_bf16_and_keeps_float32_weights(pixels):
    precision = Precision("cpu", torch.bfloat16)
    assert not precision.scaler().is_enabled()
    model, exact = Tiny(), Tiny()
    mixed, full = step(model, [pixels], precision=precision), step(exact, [pixels])
    assert model.layer.weight.dtype == mixed.mean.dtype == torch.float32
    torch.testing.assert_close(mixed.mean, full.mean, rtol=0.05, atol=0.05)
    assert not torch.equal(mixed.mean, full.mean)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
    ],
)
def test_a_processor_mixes_precisions_only_if_it_has_bf16(capabilities, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision(torch.device("cpu"), mixed=True).dtype == dtype


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_an_ascend_without_bf16_takes_fp16(has_bf16, dtype, monkeypatch):
    npu = SimpleNamespace(is_bf16_supported=lambda: has_bf16)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: npu)
    assert choose_precision(torch.device("privateuseone"), mixed=True).dtype == dtype  # torch_npu calls it npu


def test_without_mixed_precision_nothing_is_cast():
    assert choose_precision(torch.device("cpu"), mixed=False).dtype == torch.float32


class Normed(Tiny):
    """Has a live batch norm and one whose weights do not move."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.resting = BatchNorm(3), BatchNorm(3).requires_grad_(False)

    def losses(self, images: ImageBatch, targets: Targets, keys: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().losses(images._replace(pixels=self.live(images.pixels)), targets, keys)


class Pair(World):
    """The first of two processes; the other one has zeros everywhere."""

    def all_reduce_mean(self, tensors):
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        for tensor in tensors:
            tensor /= 2


def test_processes_share_the_statistics_of_live_batch_norms_and_of_no_others(pixels):
    model, world = Normed(), Pair(torch.device("cpu"), size=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Updater(model, optimizer, world=world, precision=FLOAT32)([micro_batch(pixels)])
    assert world.shapes[-2:] == [(3,), (3,)]
    mean = 0.1 * pixels.mean(dim=(0, 2, 3))  # momentum 0.1, from 0
    torch.testing.assert_close(model.live.running_mean, mean / 2)
    assert model.resting.running_var.tolist() == [1.0] * 3
