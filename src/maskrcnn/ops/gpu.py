"""Which operators run as Triton kernels here."""

import os
import shutil
import warnings
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

import torch

_replaced: set[str] = set()
"""Operators whose definitions replace their kernels in this process."""


def uses_kernel(name: str) -> bool:
    """Whether an operator on a GPU runs as its Triton kernel, and not as its definition."""
    # The search for Triton cannot be traced; who compiles for a GPU needs Triton anyway.
    return name not in _replaced and (torch.compiler.is_compiling() or has_triton())


def replace_kernels(names: Iterable[str]) -> None:
    """Run these operators by their definitions from now on, and all others by their kernels."""
    _replaced.clear()
    _replaced.update(names)


@cache
def has_triton() -> bool:
    """Whether Triton is installed and finds the C compiler with which it makes its launchers; warns once if not."""
    missing = None
    if find_spec("triton") is None:
        missing = "the package triton is missing, which CUDA builds of torch bring on Linux"
    elif not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        missing = "Triton finds no C compiler; install gcc or set CC"
    if missing:
        warnings.warn(f"GPU kernels run as plain PyTorch, which is far slower: {missing}", stacklevel=2)
    return missing is None
