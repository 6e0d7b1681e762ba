"""The memory of a device: how much was used, how it is used again, and what to do when it is not enough."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

GIBIBYTE = 2**30
_MOST_MAPPED, _LEAST_TRIMMED = -4, -1
"""M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's mallopt."""
_NEVER = 2**31 - 1
_ANOTHER_LIBRARY = OSError, AttributeError, TypeError
"""What is raised where the functions of glibc are missing."""
_SAID_BY_A_PROCESSOR = ("can't allocate memory", "not enough memory")


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that tensors took at once since the last call; None where the device does not count."""
    if device.type == "cpu":
        return None
    counter = torch.get_device_module(device.type)
    most = int(counter.max_memory_allocated(device))
    counter.reset_peak_memory_stats(device)
    return most


def keep_freed_memory(device: torch.device) -> None:
    """Let this process keep what it frees on a processor, and use it again.

    glibc gives each large block back to the system, which fills it with zeros, page by page, when it is wanted again:
    for the activations of a large photo that is a tenth of a prediction. Does nothing with other libraries.
    """
    if device.type == "cpu":
        with suppress(*_ANOTHER_LIBRARY):
            library = ctypes.CDLL(None)
            library.mallopt(_MOST_MAPPED, 0)
            library.mallopt(_LEAST_TRIMMED, _NEVER)


def give_back_memory() -> None:
    """Return to the system what this process has freed, which the allocators of its threads would keep.

    Does nothing with other libraries than glibc.
    """
    with suppress(*_ANOTHER_LIBRARY):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def explained(device: torch.device, num_images: int, bucket: Sequence[int], advice: str) -> Iterator[None]:
    """Turns the device's error for too little memory into a MemoryError that names the batch and the remedies."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        images = f"{num_images} image{'s' * (num_images > 1)} of {bucket[0]} x {bucket[1]} at once"
        raise MemoryError(f"{_name(device)} has too little memory for {images}; {advice}") from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(part in str(error) for part in _SAID_BY_A_PROCESSOR)


def _name(device: torch.device) -> str:
    if device.type == "cpu":
        return "this machine"
    _, total = torch.get_device_module(device.type).mem_get_info(device)
    return f"{device} ({total / GIBIBYTE:.0f} GiB)"
