"""While tests run, the package's functions refuse arguments of other types and shapes than they state."""

import pytest
import torch

from maskrcnn.boxes import clip
from maskrcnn.clock import mark


def test_axes_of_one_name_agree():
    one, two = torch.zeros(1, 3, 4), torch.zeros(2, 2)  # would broadcast
    with pytest.raises(TypeError, match="sizes"):
        clip(one, two)


def test_arguments_without_axes_have_their_types():
    with pytest.raises(TypeError, match="device"):
        mark("cpu")
