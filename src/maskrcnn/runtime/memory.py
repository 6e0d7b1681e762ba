"""The memory of a device: how much was used, how it is used again, and what to do when it is not enough."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from maskrcnn.runtime.allocator import keep_freed
from maskrcnn.runtime.devices import function_of, memory_of

GIBIBYTE = 2**30
_SAID_ELSEWHERE = ("can't allocate memory", "not enough memory", "MPS backend out of memory")
"""What CPUs and Apple's GPUs say, whose errors are of no class of their own."""


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that tensors took at once since the last call; None where the device does not count."""
    if device.type == "cpu":
        return None
    most, reset = (function_of(device, name) for name in ("max_memory_allocated", "reset_peak_memory_stats"))
    if most is None or reset is None:
        return None
    peak = int(most(device))
    reset(device)
    return peak


def keep_freed_memory(device: torch.device) -> None:
    """Let this process use again what it frees on a CPU."""
    if device.type == "cpu":
        keep_freed()


def free_cached() -> None:
    """Give a GPU back what tensors no longer need, for those who do not share this process's cache."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def explain_out_of_memory(device: torch.device, num_images: int, bucket: Sequence[int], advice: str) -> Iterator[None]:
    """Turns the device's error for too little memory into a MemoryError that names the batch and the remedies."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        images = f"{num_images} image{'s' * (num_images > 1)} of {bucket[0]} x {bucket[1]} at once"
        raise MemoryError(f"{_name(device)} has too little memory for {images}; {advice}") from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, be it the CPU, lacked memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(part in str(error) for part in _SAID_ELSEWHERE)


def _name(device: torch.device) -> str:
    if device.type == "cpu":
        return "this machine"
    memory = memory_of(device)
    return str(device) if memory is None else f"{device} ({memory[1] / GIBIBYTE:.0f} GiB)"
