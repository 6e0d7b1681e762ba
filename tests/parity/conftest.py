"""Comparisons are of conventions, to the last digits of float32: convolutions multiply as others do."""

import importlib
import sys

import pytest

conv1x1, conv3x3 = (importlib.import_module(f"maskrcnn.ops.{name}") for name in ("conv1x1", "conv3x3"))
DEFAULTS = conv1x1.MIN_PIXELS, conv3x3.MIN_TILES


@pytest.fixture(autouse=True)
def direct_convolutions(monkeypatch):
    monkeypatch.setattr(conv1x1, "MIN_PIXELS", sys.maxsize)
    monkeypatch.setattr(conv3x3, "MIN_TILES", sys.maxsize)


@pytest.fixture
def own_convolutions(direct_convolutions, monkeypatch):
    """Convolutions as they are by default."""
    monkeypatch.setattr(conv1x1, "MIN_PIXELS", DEFAULTS[0])
    monkeypatch.setattr(conv3x3, "MIN_TILES", DEFAULTS[1])
