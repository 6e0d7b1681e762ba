"""Whether kernels can be built for a GPU here."""

import os
import shutil
import warnings
from functools import cache
from importlib.util import find_spec


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
