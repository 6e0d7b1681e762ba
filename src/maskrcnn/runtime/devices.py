"""Which device a process takes, and what torch can do with its kind.

Each kind has a module of functions, some of which are missing for some kinds.
"""

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

import torch

from maskrcnn.sentences import typed

DeviceSetting = Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"]
KINDS = {"gpu": "cuda", "ascend": "npu"}
"""Settings whose devices torch calls otherwise."""
REMEDIES = {
    "cuda": "check `nvidia-smi` and that torch is a CUDA build",
    "npu": "check `npu-smi info`",
    "mps": "it needs a Mac with Apple's chip, macOS 14 or newer, and torch for it",
    "xpu": "check `xpu-smi discovery` and that torch is an XPU build",
}


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


def choose_device(setting: DeviceSetting, local_rank: int) -> torch.device:
    """The device of one process.

    `auto` takes a GPU, else an Ascend NPU, else what torch calls the accelerator here (xpu, mps, one of a package that
    brings its own), else the CPU; `accelerator` insists on one.
    """
    kind = _kind_of(setting)
    if kind == "cpu":
        return torch.device("cpu")
    available = num_devices(kind)
    if not available:
        remedy = REMEDIES.get(kind, "install torch's package for your accelerator")
        raise ValueError(
            f"device={setting}: expected at least one such device, 0 are visible; {remedy}, or set "
            f"{typed('device=cpu')}"
        )
    if local_rank >= available:
        raise ValueError(
            f"device={setting}: process {local_rank} of this machine wants the device of that number, but {available} "
            f"are visible; start at most {available} processes on it"
        )
    device = torch.device(kind, local_rank)
    choose = function_of(device, "set_device")
    if choose is not None:  # of mps there is but one
        choose(device)
    if kind == "mps" and os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") != "1":
        warnings.warn(
            "torch was imported before maskrcnn, so an operator that mps lacks will stop the run; import maskrcnn "
            "first, or set PYTORCH_ENABLE_MPS_FALLBACK=1, and it runs on the CPU",
            stacklevel=2,
        )
    return device


def num_devices(kind: str) -> int:
    """Devices of a kind that torch can use here."""
    if kind == "npu":
        return _num_npus()
    module = getattr(torch, kind, None)
    return int(module.device_count()) if module is not None and module.is_available() else 0


def _kind_of(setting: DeviceSetting) -> str:
    """What torch calls the device of a setting; nothing for an accelerator that is not there."""
    if setting == "auto" and torch.cuda.is_available():
        return "cuda"
    if setting == "auto" and find_spec("torch_npu"):
        return "npu"
    if setting not in ("auto", "accelerator"):
        return KINDS.get(setting, setting)
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None else "cpu" if setting == "auto" else ""


def _num_npus() -> int:
    if find_spec("torch_npu") is None:
        raise ValueError("device=ascend needs the package torch_npu of the installed torch version and Ascend's CANN")
    import torch_npu

    return int(torch_npu.npu.device_count())
