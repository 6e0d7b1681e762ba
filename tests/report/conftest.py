"""The data set of plain pictures that evaluation is tested on."""

from ..evaluate.conftest import recipe

__all__ = ["recipe"]
