"""Too little memory becomes a sentence with remedies."""

import pytest
import torch

from maskrcnn.memory import explained, peak_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    ],
)
def test_the_sentence_names_the_batch_its_padded_size_and_what_helps(error):
    with (
        pytest.raises(
            MemoryError, match=r"this machine has too little memory for 3 images of 800 x 1344 at once; pray$"
        ),
        explained(CPU, 3, (800, 1344), "pray"),
    ):
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), explained(CPU, 1, (32, 64), "pray"):
        raise RuntimeError("shapes do not fit")


def test_a_processor_does_not_count():
    assert peak_memory(CPU) is None
