import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from numba.core.registry import CPUDispatcher

from maskrcnn import masks
from maskrcnn.masks import (
    bitmap_from_counts,
    counts_from_bitmap,
    counts_from_string,
    rings_from_counts,
    string_from_counts,
)

coco = pytest.importorskip("pycocotools.mask")

BITMAPS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(BITMAPS)
@settings(max_examples=100, deadline=None)
def test_run_lengths_and_strings_equal_those_of_pycocotools(mask):
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    counts = counts_from_bitmap(mask)
    assert string_from_counts(counts) == theirs
    assert np.array_equal(counts_from_string(theirs), counts)
    assert np.array_equal(bitmap_from_counts(counts, *mask.shape), mask)


def test_counts_run_down_the_columns():
    mask = np.array([[0, 0, 1], [1, 0, 1]])
    assert counts_from_bitmap(mask).tolist() == [1, 1, 2, 2]
    assert counts_from_bitmap(~mask.astype(bool)).tolist() == [0, 1, 1, 2, 2]
    assert bitmap_from_counts([1, 1, 2, 2], 2, 3).tolist() == mask.astype(bool).tolist()


def test_empty_runs_in_between_are_allowed():
    assert bitmap_from_counts([1, 1, 0, 2, 2], 2, 3).sum() == 3


@pytest.mark.parametrize("read", [bitmap_from_counts, rings_from_counts])
@pytest.mark.parametrize("counts", [[], [5], [3, 4], [2**32 - 1, 7]])
def test_run_lengths_that_miss_the_image_are_refused(read, counts):
    with pytest.raises(ValueError, match="sum to 2 x 3 = 6 pixels, received"):
        read(counts, 2, 3)


@pytest.mark.parametrize("counts", [[-1, 7], [2**32, 6], [0.5, 5.5], [[6]]])
def test_what_is_no_run_length_is_refused(counts):
    with pytest.raises(ValueError, match=r"expected .*run lengths"):
        bitmap_from_counts(np.array(counts), 2, 3)


def test_a_stack_of_masks_is_refused():
    with pytest.raises(ValueError, match="one object at a time"):
        inspect.unwrap(counts_from_bitmap)(np.zeros((1, 2, 3)))  # without the tests' own checks of shapes


def test_every_kernel_releases_the_gil():
    modules = [
        importlib.import_module(f"maskrcnn.masks.{module.name}") for module in pkgutil.iter_modules(masks.__path__)
    ]
    kernels = {value for module in modules for value in vars(module).values() if isinstance(value, CPUDispatcher)}
    assert len(kernels) > 10
    assert all(kernel.targetoptions["nogil"] for kernel in kernels)
