"""On a real GPU: kernels that agree, and a ladder that nobody has to step down."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.models.mask_rcnn import build
from maskrcnn.ops.proof import OPERATORS, fault, faults
from maskrcnn.runtime.ladder import RUNGS, laddered
from maskrcnn.structures import ImageBatch


@pytest.mark.parametrize("operator", OPERATORS)
def test_each_kernel_agrees_with_its_definition(cuda, operator):
    assert fault(operator, cuda) == ""


def test_a_process_of_its_own_says_so_too(cuda):
    assert faults(cuda) == dict.fromkeys(OPERATORS, "")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_predictions_stay_on_the_first_rung(cuda, dtype):
    torch.manual_seed(0)
    model = build(config.Model(backbone=config.Backbone(norm="group_norm")), 80).eval().to(cuda)
    told = []
    forward = laddered(model, RUNGS, cuda, told.append)
    pixels = torch.randn(2, 3, 512, 704, generator=torch.Generator().manual_seed(0)).to(cuda)
    batch = ImageBatch(
        pixels.contiguous(memory_format=torch.channels_last), torch.tensor([[500.0, 700.0]] * 2).to(cuda)
    )
    with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        for _ in range(3):
            assert forward(batch).boxes.isfinite().all()
    assert (told, forward.execution) == ([], "compiled")
