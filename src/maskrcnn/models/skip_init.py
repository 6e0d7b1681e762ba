"""Construction of layers without random weights, for networks whose weights come from a file."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

DRAWS = (Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_)
"""Initialisers that torch's layers and ours call, as far as a function mode sees them."""


class SkipInit(TorchFunctionMode):
    """Context in which new layers keep uninitialised memory instead of drawing random weights."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
