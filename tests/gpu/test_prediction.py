"""Prediction on a GPU finds what it finds on a processor, however it runs."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.models.layers import folded
from maskrcnn.models.mask_rcnn import build
from maskrcnn.runtime.execution import executed, to_host
from maskrcnn.structures import ImageBatch

SIZES = [(512, 704), (704, 512), (512, 704), (512, 704), (704, 512), (512, 704)]


def images(number: int, height: int, width: int, batch: int = 2) -> ImageBatch:
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randn(batch, 3, height, width, generator=generator).contiguous(memory_format=torch.channels_last)
    return ImageBatch(pixels, torch.tensor([[height - 7.0, width - 20.0]] * batch))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build(config.Model(backbone=config.Backbone(norm="group_norm")), 80).eval()
    torch.nn.init.normal_(model.box_head.classes.weight, std=0.3)  # many detections with scores far apart
    return model


@pytest.mark.parametrize("execution", ["eager", "captured", "compiled"])
def test_all_ways_find_the_same(model, cuda, execution):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_gpu = executed(folded(model).to(cuda), execution, cuda)
    with torch.inference_mode():
        for number, size in enumerate(SIZES):
            batch = images(number, *size)
            found = to_host(on_gpu(ImageBatch(*(tensor.to(cuda) for tensor in batch))), cuda).wait()
            expected = model(batch)
            assert (found.valid == expected.valid).float().mean() > 0.98
            same = (found.boxes - expected.boxes).abs().amax(dim=2) < 0.05
            assert same.float().mean() > 0.95  # a score that ties to a digit may change places
            assert (found.masks - expected.masks)[same].abs().max() < 0.01


@pytest.mark.parametrize("execution", ["eager", "captured", "compiled"])
def test_a_prediction_never_waits_for_the_device(model, cuda, execution):
    predict = executed(folded(model, torch.bfloat16).to(cuda), execution, cuda)
    batch = ImageBatch(*(tensor.to(cuda) for tensor in images(0, 512, 704)))
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for _ in range(3):
            predict(batch)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = predict(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert found.masks.isfinite().all()
