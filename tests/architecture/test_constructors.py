"""Parts of the network take sections of the recipe and modules, not long lists of numbers."""

import inspect
import pkgutil
from importlib import import_module

import pytest
from torch import nn

import maskrcnn.models
from maskrcnn.models.mask_rcnn import build

MODULES = [import_module(f"maskrcnn.models.{module.name}") for module in pkgutil.iter_modules(maskrcnn.models.__path__)]
PARTS = [
    part
    for module in MODULES
    for part in vars(module).values()
    if inspect.isclass(part) and issubclass(part, nn.Module) and part.__module__ == module.__name__
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_a_constructor_takes_at_most_eight_arguments(part):
    names = [name for name in inspect.signature(part.__init__).parameters if name != "self"]
    assert len(names) <= 8, names


def test_what_composes_the_network_is_short():
    assert len(inspect.getsource(build).splitlines()) < 30
