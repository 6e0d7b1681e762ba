"""Structure of a network from shapes, and the error where they do not tell."""

import pytest
import torch

from maskrcnn.convert.structure import SIDES, structure_of


def found(state):
    return structure_of(state, str, background_everywhere=False)


def test_names_and_shapes_tell_how_a_network_is_built(small):
    structure = found(small.tensors)
    assert structure.num_classes == 2
    for setting in ("backbone", "neck", "box_head", "mask_head"):
        assert getattr(structure.model, setting) == getattr(small.recipe.model, setting)


@pytest.mark.parametrize("name", SIDES)
def test_a_tensor_of_another_number_of_dimensions_is_named(small, name):
    for tensor, received in ((torch.tensor(1.0), "a scalar"), (torch.ones(1, 2, 3), "1 x 2 x 3")):
        with pytest.raises(ValueError, match=rf"expected {name} of {SIDES[name]} dimensions?, .* received {received}$"):
            found({**small.tensors, name: tensor})


@pytest.mark.parametrize("name", SIDES)
def test_an_empty_tensor_is_named(small, name):
    for side in range(SIDES[name]):
        shape = [3] * SIDES[name]
        shape[side] = 0
        with pytest.raises(ValueError, match=rf"expected {name} of .* none of them 0, received .*0"):
            found({**small.tensors, name: torch.ones(shape)})


def test_a_network_of_the_background_alone_is_refused(small):
    with pytest.raises(
        ValueError, match=r"expected a class beside the background, but box_head\.classes\.bias has one"
    ):
        found({**small.tensors, "box_head.classes.bias": torch.ones(1)})


def test_a_tensor_that_is_missing_is_named(small):
    state = {name: tensor for name, tensor in small.tensors.items() if name != "neck.lateral.0.weight"}
    with pytest.raises(ValueError, match=r"but there is no neck\.lateral\.0\.weight"):
        found(state)
