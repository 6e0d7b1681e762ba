"""A recorded step: the whole update of a real network, replayed without a line of Python, learns as eager steps do."""

from functools import partial

import msgspec
import pytest
import torch

from maskrcnn import config
from maskrcnn.data.augment.copy_paste import paste
from maskrcnn.models.mask_rcnn import build
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.precision import Precision
from maskrcnn.structures import ImageBatch, MicroBatch, Targets
from maskrcnn.train.optimizer import build_optimizer, set_rate
from maskrcnn.train.step import Updater

CPU = World(torch.device("cpu"))
TINY = config.Model(
    backbone=config.Backbone(kind="resnet18", norm="group_norm", frozen_stages=1, width=8),
    neck=config.Neck(channels=16),
    rpn=config.RPN(num_samples=32, num_train_candidates=50, num_train_proposals=40),
    box_head=config.BoxHead(hidden=32, num_rois=24),
    mask_head=config.MaskHead(num_convs=1, channels=16, num_rois=6),
)
LIVE = msgspec.structs.replace(
    TINY, backbone=msgspec.structs.replace(TINY.backbone, norm="batch_norm", frozen_stages=0)
)
NUM_STEPS = 8


def lesson(number: int, height: int, width: int) -> MicroBatch:
    """Noise with one rectangle in each of two images, another one in each step."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randn(2, 3, height, width, generator=generator).contiguous(memory_format=torch.channels_last)
    corner = torch.rand(2, 1, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + 16 + 20 * torch.rand(2, 1, 2, generator=generator)], dim=2)
    x1, y1, x2, y2 = boxes.unbind(2)
    edges = torch.stack(
        [torch.stack(edge, 2) for edge in ((x1, y1, x2, y1), (x2, y1, x2, y2), (x2, y2, x1, y2), (x1, y2, x1, y1))], 2
    ).flatten(1, 2)
    yes = torch.ones(2, 1, dtype=torch.bool)
    targets = Targets(boxes, yes.long(), ~yes, yes, edges, torch.tensor([[0, 4]] * 2))
    sizes = torch.tensor([[float(height), float(width)]] * 2)
    return MicroBatch(ImageBatch(pixels, sizes), targets, torch.tensor([3 * number, 3 * number + 1]))


def learn(
    recorder=None,
    *,
    kind="sgd",
    mixed=False,
    micro_batches=1,
    clip_norm=1.0,
    model_settings=TINY,
    compile=None,
    shapes=((64, 96), (96, 64)),
    change=lambda batch: batch,
):
    """Losses of some steps over shapes in turn, and the weights they lead to."""
    torch.manual_seed(0)
    model = build(model_settings, 2).train()
    if compile is not None:
        model.losses = compile(model.losses)
    settings = config.Optimizer(kind=kind, lr=0.01)
    optimizer = build_optimizer(model, settings, rate_on_device=recorder is not None)
    precision = Precision("cpu", torch.bfloat16 if mixed else torch.float32)
    update = Updater(
        model,
        optimizer,
        world=CPU,
        precision=precision,
        clip_norm=clip_norm,
        rungs=("eager",) if recorder is None else ("captured",),
        recorder=recorder,
    )
    losses = []
    for step in range(NUM_STEPS):
        set_rate(optimizer, 0.01 / (1 + step))
        shape = shapes[step % len(shapes)]
        found = update([change(lesson(step * micro_batches + part, *shape)) for part in range(micro_batches)])
        losses.append(found.mean)
    return torch.stack(losses), dict(model.named_parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "adamw", "clip_norm": 0.0},
        {"mixed": True},
        {"micro_batches": 2},
        {"model_settings": LIVE},
        {"change": partial(paste, probability=1.0)},
    ],
    ids=["sgd", "adamw", "bf16", "micro-batches", "live batch norm", "copy-paste"],
)
def test_replayed_steps_have_the_losses_and_weights_of_eager_steps(tape, options):
    eager, weights = learn(**options)
    replayed, replayed_weights = learn(tape, **options)
    assert tape.num_recorded == 2
    torch.testing.assert_close(replayed, eager, rtol=1e-5, atol=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(replayed_weights[name], weight, rtol=1e-5, atol=1e-6)


def test_the_rate_that_a_step_reads_is_the_one_set_last(tape):
    torch.manual_seed(0)
    model = build(TINY, 2)
    optimizer = build_optimizer(model, config.Optimizer(lr=0.5), rate_on_device=True)
    precision = Precision("cpu", torch.float32)
    update = Updater(
        model,
        optimizer,
        world=CPU,
        precision=precision,
        rungs=("captured",),
        recorder=tape,
    )
    weight = model.box_head.classes.weight
    for _ in range(3):
        set_rate(optimizer, 0.0)
        before = weight.detach().clone()
        update([lesson(0, 64, 96)])
        assert torch.equal(weight, before)
    set_rate(optimizer, 0.1)
    update([lesson(0, 64, 96)])
    assert not torch.equal(weight, before)


def test_a_traced_step_learns_what_an_eager_one_does():
    """Forward and backward as graphs of plain operations: what a compiler is given."""
    torch._dynamo.reset()
    shapes, real = [(64, 96)], torch.compile
    eager, _ = learn(shapes=shapes)

    def trace(function):
        return real(function, fullgraph=True, dynamic=False, backend="aot_eager")

    traced, _ = learn(compile=trace, shapes=shapes)
    torch.testing.assert_close(traced, eager, rtol=1e-5, atol=1e-5)


def test_computing_activations_again_changes_nothing_but_memory():
    def gradients(recompute):
        torch.manual_seed(0)
        model = build(TINY, 2)
        model.backbone.recompute = recompute
        kept = []

        def keep(tensor):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = model.losses(*lesson(0, 64, 96))
        sum(value for name, value in losses.items() if not name.startswith("count/")).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}, sum(kept)

    (plain, kept), (again, kept_again) = gradients(False), gradients(True)
    assert kept_again < 0.8 * kept
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient)
