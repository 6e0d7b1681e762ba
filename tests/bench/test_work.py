"""Operations and bytes as a person counts them."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.bench import work
from maskrcnn.bench.ceilings import Ceilings
from maskrcnn.bench.setup import trained_like
from maskrcnn.bench.work import Counter, Operation, least_seconds, multiplications
from maskrcnn.models.layers import Conv, Depthwise
from maskrcnn.ops import conv1x1, conv3x3
from maskrcnn.runtime.precision import Precision

FLOAT32, BFLOAT16 = (Precision("cpu", dtype) for dtype in (torch.float32, torch.bfloat16))


@pytest.fixture(scope="module")
def small():
    settings = config.Model(
        backbone=config.Backbone(kind="resnet18", width=16),
        neck=config.Neck(channels=16),
        box_head=config.BoxHead(hidden=32),
    )
    return trained_like(settings, 3)


def test_a_product_of_2x3_and_3x5_has_30_multiplications_and_moves_31_numbers():
    with Counter() as counter:
        operations = counter.during(lambda: torch.zeros(2, 3) @ torch.zeros(3, 5))
    assert operations == [Operation(flops=60, bytes=4 * (6 + 15 + 10))]
    assert multiplications(operations) == 30


def test_a_linear_layer_counts_and_what_is_no_product_does_not():
    layer = torch.nn.Linear(3, 5)
    with Counter() as counter, torch.no_grad():
        operations = counter.during(lambda: layer(torch.zeros(2, 3)).relu().exp())
    assert [operation.flops for operation in operations] == [60]


def test_each_product_takes_the_longer_of_its_two_times():
    ceilings = Ceilings(flops=100.0, bandwidth=10.0)
    assert least_seconds([Operation(200, 5), Operation(50, 30)], ceilings) == 2.0 + 3.0


def test_a_prediction_of_resnet_50_needs_267_billion_multiplications():
    """The 269 billion of the paper's network, without the masks of 79 classes that nobody wants."""
    unwanted = 100 * 28 * 28 * 256 * 79 / 1e9
    model = trained_like(config.Model(), 80)
    parts = work.prediction(model, 1, (800, 1344), BFLOAT16)
    found = {name: multiplications(operations) / 1e9 for name, operations in parts.items()}
    expected = {"backbone and FPN": 148.5, "RPN": 53.2, "box head": 14.3, "mask head": 53.0 - unwanted}
    assert found == pytest.approx(expected, rel=0.01)


def test_a_processor_does_with_a_quarter_in_convolutions_that_keep_the_size():
    layer = Conv(64, 96, 3)
    with Counter() as counter, torch.no_grad():
        operations = counter.during(lambda: layer(torch.zeros(2, 64, 32, 48)))
    assert sum(operation.flops for operation in operations) == 2 * (2 * 32 * 48 * 64 * 96 * 9 // 4)


def test_a_depthwise_convolution_meets_each_channel_with_its_own_weights():
    layer, x = Depthwise(32, 5, stride=2), torch.zeros(2, 32, 16, 24).requires_grad_()
    with Counter() as counter:
        forward = counter.during(lambda: layer(x).sum())
        backward = counter.during(lambda: layer(x).sum().backward())
    once = 2 * (2 * 32 * 8 * 12 * 25)
    assert sum(operation.flops for operation in forward) == once
    assert sum(operation.flops for operation in backward) == 3 * once


def test_half_the_bytes_in_half_the_precision_and_twice_the_work_for_twice_the_images(small, monkeypatch):
    for module in (conv3x3, conv1x1):
        monkeypatch.setattr(module, "_is_faster", lambda *_: False)  # all convolutions are torch's

    def totals(batch, dtype):
        parts = work.training(small, batch, (128, 192), Precision("cpu", dtype))
        every = [operation for operations in parts.values() for operation in operations]
        return sum(operation.flops for operation in every), sum(operation.bytes for operation in every)

    (flops, size), (same, half), (twice, _) = (
        totals(1, torch.float32),
        totals(1, torch.bfloat16),
        totals(2, torch.float32),
    )
    assert flops == same
    assert half == pytest.approx(0.5 * size, rel=0.02)
    assert twice == pytest.approx(2 * flops, rel=0.01)
    assert all(parameter.grad is None for parameter in small.parameters())


def test_sgd_reads_three_numbers_and_writes_two_for_each_trained_one(small):
    trained = sum(parameter.numel() for parameter in small.parameters() if parameter.requires_grad)
    assert work.optimizer_bytes(small, "sgd") == 5 * 4 * trained
