"""Custom operators: one node for compilers, a kernel for each kind of device.

As `torch.library.custom_op`, whose kernels import torch's compiler at their first call, to shield themselves from it:
two seconds before a first prediction. Kernels here run below the dispatcher, where no compiler looks.
"""

from collections.abc import Callable
from typing import Any

import torch

NAMESPACE = "maskrcnn"


class Operator:
    """A function of tensors that PyTorch knows by name; changes none of its arguments, and returns new tensors."""

    def __init__(self, name: str, function: Callable[..., Any], device: str) -> None:
        self._name = f"{NAMESPACE}::{name}"
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(self._name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(self._name, device, function)
        self._call = getattr(getattr(torch.ops, NAMESPACE), name).default

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def register_kernel(self, device: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorates what runs on a kind of device."""

        def register(kernel: Callable[..., Any]) -> Callable[..., Any]:
            torch.library.impl(self._name, device, kernel)
            return kernel

        return register

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates what makes results of the right shape, type and layout, and computes nothing."""
        torch.library.register_fake(self._name, fake)
        return fake

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """See `torch.library.register_autograd`."""
        torch.library.register_autograd(self._name, backward, setup_context=setup_context)


def operator(name: str, device: str = "default") -> Callable[[Callable[..., Any]], Operator]:
    """Decorates the function that runs on a kind of device, or wherever no kernel is registered."""
    return lambda function: Operator(name, function, device)
