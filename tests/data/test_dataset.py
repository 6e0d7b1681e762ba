"""A data set whose columns contradict each other is refused when it is made, whichever format it was read from."""

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.formats import coco


@pytest.fixture
def data(write_split, annotate):
    return coco.read(*write_split([annotate(1), annotate(2)]))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"labels": np.array([1, 9])}, "expected labels from 1 to 2, one for each category, got 9"),
        ({"labels": np.array([0, 1])}, "expected labels from 1 to 2, one for each category, got 0"),
        ({"file_names": ("a.png", "b.png")}, "expected 1 entries of `file_names`, got 2"),
        ({"first_ring": np.array([0, 2, 1])}, "expected `first_ring` to rise from 0 to 2, got 0 to 1"),
        ({"category_names": ("cat",)}, "expected 2 entries of `category_names`, got 1"),
        (
            {"boxes": np.array([[0, 0, 4, 0], [1, 1, 2, 2]], np.float32)},
            r"expected boxes \(x1, y1, x2, y2\) with some area, or the flag OUTSIDE, got \[0.0, 0.0, 4.0, 0.0\]",
        ),
    ],
    ids=["label too high", "label of the background", "short column", "rings", "names", "empty box"],
)
def test_columns_that_contradict_each_other_are_refused_by_name(data, columns, sentence):
    with pytest.raises(ValueError, match=f"^{data.annotations}: {sentence}$"):
        replace(data, **columns)
