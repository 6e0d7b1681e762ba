"""One call of an operator, to be timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_leaves

IMAGE_SIZE = 480, 640
"""(height, width) of most of COCO's images."""


class Case(NamedTuple):
    """One call, bound to its arguments."""

    name: str
    size: str
    kernel: Callable[[], Any]
    reference: Callable[[], Any] | None
    bytes: int | None
    """Bytes that are read and written at least; None where memory is not what counts."""
    on_device: bool = True
    """Whether nothing of it happens on the host."""


def bytes_of(*trees: object) -> int:
    """Bytes of all tensors, those that share memory once."""
    storages = [leaf.untyped_storage() for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
