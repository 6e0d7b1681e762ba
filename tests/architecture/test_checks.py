"""What tests/conftest.py adds: arguments are checked while tests run, and `--fast` leaves out what takes long."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from maskrcnn.boxes import clip
from maskrcnn.runtime.clock import mark

TESTS = Path(__file__).parents[1]


def test_axes_of_one_name_agree():
    one, two = torch.zeros(1, 3, 4), torch.zeros(2, 2)  # would broadcast
    with pytest.raises(TypeError, match="sizes"):
        clip(one, two)


def test_arguments_without_axes_have_their_types():
    with pytest.raises(TypeError, match="device"):
        mark("cpu")


def test_the_first_calls_of_each_test_are_checked():
    one, two = torch.zeros(1, 3, 4), torch.zeros(2, 2)
    for _ in range(100):
        clip(torch.zeros(2, 3, 4), two)
    assert clip(one, two).shape == (2, 3, 4)


def test_fast_tests_are_those_that_last_took_little_and_those_nobody_knows_and_long_ones_come_first(request):
    [plugin] = [
        one
        for one in request.config.pluginmanager.get_plugins()
        if Path(getattr(one, "__file__", "") or "").parent == TESTS and hasattr(one, "FAST")
    ]
    items = [SimpleNamespace(nodeid=name) for name in ("slow", "fast", "new", "tests/end_to_end/test_new.py::test")]
    left_out = []
    config = SimpleNamespace(
        getoption=lambda name: name == "--fast",
        cache=SimpleNamespace(get=lambda key, default: {"slow": plugin.FAST + 0.1, "fast": plugin.FAST}),
        hook=SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items)),
    )
    plugin.pytest_collection_modifyitems(config, items)
    assert [item.nodeid for item in items] == ["tests/end_to_end/test_new.py::test", "fast", "new"]
    assert [item.nodeid for item in left_out] == ["slow"]
    assert all((TESTS.parent / path).exists() for path in plugin.LONG)
