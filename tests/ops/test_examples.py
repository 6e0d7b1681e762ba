"""The fixed inputs on which kernels are proved: they cover what has a kernel, and leave no choice to rounding."""

import importlib
import pkgutil

import pytest
import torch

from maskrcnn import ops
from maskrcnn.ops import conv3x3
from maskrcnn.ops.examples import EXAMPLES, Example, compute, difference, examples

CPU = torch.device("cpu")
EACH = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
CHOICES = ("match", "nms")


def test_every_operator_has_an_example():
    folders = {package.name for package in pkgutil.iter_modules(ops.__path__) if package.ispkg}
    assert {example.operator for example in EXAMPLES} == folders
    assert len({example.name for example in EXAMPLES}) == len(EXAMPLES)
    assert [example.operator for example in examples("nms", "match")] == ["match", "nms"]


@EACH
def test_the_processors_kernels_agree_with_their_definitions(example):
    apart = difference(compute(example, example.kernel, CPU), compute(example, example.definition, CPU))
    assert apart <= example.tolerance


@EACH
def test_the_same_numbers_come_every_time(example):
    first, second = (compute(example, example.definition, CPU) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("example", examples(*CHOICES), ids=lambda example: example.name)
def test_no_choice_hangs_on_rounding(example):
    def in_double(*given):
        return example.definition(*(one.double() if one.is_floating_point() else one for one in given))

    assert difference(compute(example, in_double, CPU), compute(example, example.definition, CPU)) == 0


def test_convolutions_take_all_three_ways():
    few, many = (
        conv3x3.cpu.num_tiles(example.inputs(torch.Generator())[0].shape) * conv3x3.cpu.CHANNELS_PER_TILE
        - example.inputs(torch.Generator())[0].shape[1]
        for example in (examples("conv3x3")[1], examples("conv3x3")[0])
    )
    assert few <= 0 < many


@pytest.mark.filterwarnings("ignore:Warning only once for all operators")
@pytest.mark.parametrize("operator", ["match", "nms", "rasterize", "paste"])
def test_triton_kernels_agree_with_their_definitions(operator, gpu, monkeypatch):
    """Without a GPU Triton's interpreter runs them, in place of the CPU's; RoIAlign has smaller inputs of its own."""
    triton = importlib.import_module(f"maskrcnn.ops.{operator}.triton")
    monkeypatch.setattr(importlib.import_module("maskrcnn.ops.paste"), "_is_on_gpu", lambda values: True)
    with torch.library._scoped_library("maskrcnn", "IMPL") as library:
        library.impl(operator, getattr(triton, operator), "CUDA" if gpu.type == "cuda" else "CPU", allow_override=True)
        for example in examples(operator):
            found = compute(example, example.kernel, gpu)
            assert difference(found, compute(example, example.definition, CPU)) <= example.tolerance


def stand_in(function, tolerance=1e-3):
    return Example("two", "nms", lambda generator: (torch.tensor([1.0, -4.0]),), function, torch.neg, tolerance, (0,))


@pytest.mark.parametrize(
    ("function", "apart"),
    [
        (torch.neg, 0.0),
        (lambda x: -x + 0.04, 0.01),  # a hundredth of the largest
        (lambda x: -x * 0.5, 0.5),
        (lambda x: -x.detach() + 0 * x, 1.0),  # right numbers, no gradient
        (lambda x: -x * float("nan"), float("inf")),
        (lambda x: -x[:1], float("inf")),
        (lambda x: -x.double(), float("inf")),
    ],
)
def test_the_difference_sees_numbers_gradients_shapes_and_types(function, apart):
    example = stand_in(function)
    found = compute(example, example.kernel, CPU)
    assert difference(found, compute(example, example.definition, CPU)) == pytest.approx(apart)


def test_the_difference_of_choices_is_the_share_that_differs():
    one, other = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])
    assert difference([one], [other]) == 0.25
    assert difference([one > 1, one], [one > 1, one]) == 0.0
    assert difference([one[:0]], [one[:0]]) == 0.0
