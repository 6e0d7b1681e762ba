"""Mixed precision: which number type a device computes activations in."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch

from maskrcnn.runtime.devices import function_of

SCALES = ("cuda", "npu", "privateuseone")
"""Devices on which the loss scale that fp16 needs is known to work; the last is the second without torch_npu."""
EMULATE = ("cuda", "xpu")
"""Devices that claim bf16 where they only emulate it, and say so when asked."""


class Precision(NamedTuple):
    """The number type of activations; float32 means no mixed precision."""

    device: str
    dtype: torch.dtype
    widened: bool = False
    """Whether predictions compute 3 x 3 convolutions in float32 all the same, where that is faster."""

    def autocast(self) -> AbstractContextManager[None]:
        if not torch.amp.is_autocast_available(self.device):
            return nullcontext()
        return torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps gradients in the range of fp16; does nothing for other types."""
        return torch.amp.GradScaler(self.device, enabled=self.dtype == torch.float16)


def choose_precision(device: torch.device, mixed: bool) -> Precision:
    """bf16 where the device computes in it, else fp16 with a loss scale on CUDA GPUs and Ascend, float32 elsewhere.

    A CPU that has to emulate bf16 takes ten times as long as for float32.
    """
    if not mixed:
        return Precision(device.type, torch.float32)
    if device.type == "cpu":
        return Precision("cpu", torch.bfloat16 if cpu_has_bf16() else torch.float32)
    if not torch.amp.is_autocast_available(device.type):
        return Precision(device.type, torch.float32)
    if _has_bf16(device):
        return Precision(device.type, torch.bfloat16)
    return Precision(device.type, torch.float16 if device.type in SCALES else torch.float32)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 by itself: AMX or AVX-512 BF16 on x86, BF16 instructions on ARM.

    False where torch was told to do with AVX2 (`ATEN_CPU_CAPABILITY=avx2`), as libraries are then told, too.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        return False
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


def _has_bf16(device: torch.device) -> bool:
    """Whether another device multiplies bf16 by itself; false too where torch does not say."""
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    says = function_of(device, "is_bf16_supported")
    if device.type in EMULATE:
        return says is not None and bool(says(including_emulation=False))
    return says is not None and bool(says())  # the first Ascend 910 has fp16 alone
