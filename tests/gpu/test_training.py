"""Real steps of the real network on a GPU: recorded, compiled, without a host wait, with the same bits where asked."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.config import Data
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.buckets import buckets_for, plan_epoch, whole_images
from maskrcnn.data.feeder import feed, micro_batch_maker
from maskrcnn.data.formats import coco
from maskrcnn.data.loader import Loader
from maskrcnn.models.mask_rcnn import build
from maskrcnn.runtime.clock import mark, seconds_between
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.memory import explain_out_of_memory, peak_memory
from maskrcnn.runtime.precision import choose_precision
from maskrcnn.train.optimizer import build_optimizer, set_rate
from maskrcnn.train.step import Updater
from maskrcnn.train.stopwatch import DeviceStopwatch

SMALL = config.Model(
    backbone=config.Backbone(kind="resnet18", norm="group_norm", frozen_stages=0),
    rpn=config.RPN(num_train_candidates=500, num_train_proposals=256),
    box_head=config.BoxHead(num_rois=64),
    mask_head=config.MaskHead(num_rois=16),
)
STEPS = 10


@pytest.fixture(scope="module")
def photos(shared_data):
    split = coco.find_split(shared_data / "coco_mini", "train2017", "annotations/instances_train2017.json")
    return coco.read(*split)


def settings(side: int = 256) -> Data:
    return Data(short_sides=(side,), max_side=2 * side, num_buckets=2, num_workers=4)


def batches(photos, device, data, *, batch=4, one_shape=True):
    plan = plan_epoch(
        whole_images(photos.sizes),
        data,
        buckets_for(photos.sizes, data, data.short_sides),
        batch=batch,
        seed=1,
        epoch=0,
    )
    loader = Loader(photos, plan, data, pin_memory=True)
    return feed(loader, micro_batch_maker(AnnotationStore(photos, device), device, data, one_shape=one_shape), device)


def learn(photos, device, execution, *, mixed=False, model_settings=SMALL, steps=STEPS, wait_free=False):
    """Losses of some steps, and the model they lead to."""
    torch.manual_seed(0)
    model = build(model_settings, 80).to(device).train()
    optimizer = build_optimizer(model, config.Optimizer(lr=0.002), rate_on_device=execution != "eager")
    precision = choose_precision(device, mixed)
    update = Updater(
        model,
        optimizer,
        world=World(device),
        precision=precision,
        rungs=(execution,),
    )
    losses = []
    for number, (_, micro_batch) in zip(range(steps), batches(photos, device, settings()), strict=False):
        set_rate(optimizer, 0.002 / (1 + number))
        torch.cuda.set_sync_debug_mode("error" if wait_free and number > 3 else "default")
        losses.append(update([micro_batch]).mean)
        torch.cuda.set_sync_debug_mode("default")
    return torch.stack(losses).cpu(), model


@pytest.mark.parametrize("execution", ["captured", "compiled"])
@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
def test_recorded_steps_learn_what_eager_ones_do(photos, cuda, execution, mixed):
    eager, _ = learn(photos, cuda, "eager", mixed=mixed)
    fast, _ = learn(photos, cuda, execution, mixed=mixed)
    tolerance = 5e-2 if mixed else 5e-3  # atomic additions and other kernels round otherwise, and steps amplify it
    torch.testing.assert_close(fast[:, :5], eager[:, :5], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("execution", ["eager", "captured", "compiled"])
def test_a_step_never_waits_for_the_device(photos, cuda, execution):
    losses, _ = learn(photos, cuda, execution, mixed=True, wait_free=True)
    assert losses.isfinite().all()


def test_a_deterministic_run_gives_the_same_bits_twice(photos, cuda):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        (first, model), (second, again) = (learn(photos, cuda, "captured") for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_computing_activations_again_needs_less_memory(photos, cuda):
    most = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build(SMALL, 80).to(cuda).train()
        model.backbone.recompute = recompute
        _, micro_batch = next(batches(photos, cuda, settings(640), batch=8))
        peak_memory(cuda)
        losses = model.losses(*micro_batch)
        sum(value for name, value in losses.items() if not name.startswith("count/")).backward()
        most.append(peak_memory(cuda))
    assert most[1] < 0.9 * most[0]


def test_too_little_memory_is_a_sentence(cuda):
    sentence = r"cuda:\d \(\d+ GiB\) has too little memory for 9 images of 32 x 64 at once; pray"
    with pytest.raises(MemoryError, match=sentence), explain_out_of_memory(cuda, 9, (32, 64), "pray"):
        torch.empty(2**50, device=cuda)


def test_batches_prepared_beside_the_step_are_those_of_the_processor(photos, cuda):
    data, cpu = settings(), torch.device("cpu")
    pairs = zip(batches(photos, cuda, data), batches(photos, cpu, data), range(6), strict=False)
    for (_, ours), (_, theirs), _ in pairs:
        torch.testing.assert_close(ours.images.pixels.cpu(), theirs.images.pixels, rtol=1e-4, atol=1e-3)
        for a, b in zip(ours.targets, theirs.targets, strict=True):
            torch.testing.assert_close(a.cpu(), b)
        assert torch.equal(ours.keys.cpu(), theirs.keys)


def test_events_time_the_device(cuda):
    watch, x = DeviceStopwatch(cuda), torch.randn(4096, 4096, device=cuda)
    for _ in range(4):
        watch.fetch()
        watch.begin(0.0)
        x = (x @ x).clamp(-1, 1)
        watch.end()
    first = mark(cuda)
    second = mark(cuda)
    torch.cuda.synchronize()
    spent = watch.read()
    assert 0 <= spent.waited < spent.seconds
    assert seconds_between(first, second) >= 0
