"""What torch can do with a kind of device: each has a module of functions, some of which are missing for some kinds."""

from collections.abc import Callable
from typing import Any

import torch


def function_of(device: torch.device, name: str) -> Callable[..., Any] | None:
    """A function of the module for a kind of device, such as `torch.cuda.mem_get_info`; None where it has none."""
    try:
        return getattr(torch.get_device_module(device.type), name, None)
    except RuntimeError:  # a kind without a module
        return None


def name_of(device: torch.device) -> str:
    """Name of a device as its maker calls it; its kind where torch does not say."""
    if device.type == "cpu":
        return "CPU"
    get_name = function_of(device, "get_device_name")
    return device.type if get_name is None else str(get_name(device))


def memory_of(device: torch.device) -> tuple[int, int] | None:
    """Bytes that are free and bytes in all; None where torch does not say."""
    get_memory = function_of(device, "mem_get_info")
    if get_memory is None:
        return None
    free, total = get_memory(device)
    return int(free), int(total)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cpu":
        return
    wait = function_of(device, "synchronize")
    if wait is not None:
        _ = wait() if device.type == "mps" else wait(device)  # there is but one


def copies_in_order(device: torch.device) -> bool:
    """Whether a copy that nobody waits for is safe: elsewhere it may read memory that was given to others meanwhile."""
    return device.type == "cuda"
