"""Mixed precision: which number type a device computes activations in."""

from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """The number type of activations; float32 means no mixed precision."""

    device: str
    dtype: torch.dtype
    widened: bool = False
    """Whether predictions compute 3 x 3 convolutions in float32 all the same, where that is faster."""

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps gradients in the range of fp16; does nothing for other types."""
        return torch.amp.GradScaler(self.device, enabled=self.dtype == torch.float16)


def choose_precision(device: torch.device, mixed: bool) -> Precision:
    """bf16 where the device computes in it, else fp16 with a loss scale, or on a processor float32.

    A processor that has to emulate bf16 takes ten times as long as for float32.
    """
    if not mixed:
        return Precision(device.type, torch.float32)
    if device.type == "cpu":
        return Precision("cpu", torch.bfloat16 if processor_has_bf16() else torch.float32)
    return Precision(device.type, torch.bfloat16 if _has_bf16(device.type) else torch.float16)


def processor_has_bf16() -> bool:
    """Whether it multiplies bf16 by itself: AMX or AVX-512 BF16 on x86, BF16 instructions on ARM."""
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.get_device_module(kind).is_bf16_supported())  # the first Ascend 910 has fp16 alone
