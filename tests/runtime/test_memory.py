"""Too little memory becomes a sentence with remedies."""

import platform
import subprocess
import sys

import pytest
import torch

from maskrcnn.runtime.memory import explain_out_of_memory, peak_memory

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
        explain_out_of_memory(CPU, 3, (800, 1344), "pray"),
    ):
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory(CPU, 1, (32, 64), "pray"):
        raise RuntimeError("shapes do not fit")


def test_a_processor_does_not_count():
    assert peak_memory(CPU) is None


FAULTS = """
import resource, sys, torch
from maskrcnn.runtime.memory import keep_freed_memory
if sys.argv[1:] == ["keep"]:
    keep_freed_memory(torch.device("cpu"))
for _ in range(8):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no such switch")
def test_freed_memory_is_used_again():
    """64 MiB are 16,384 pages. Blocks have to be a little larger than what was freed: the first do not fit."""
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, *words], capture_output=True, text=True, check=True).stdout)
        for words in ([], ["keep"])
    )
    assert kept < 0.5 * given_back
