from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.data.dataset import Dataset, keep_objects, select
from maskrcnn.data.identity import difference, identity
from maskrcnn.masks import Rings


def data() -> Dataset:
    """Three images with two, none and one object, of which the last has two rings."""
    rings = Rings(np.arange(32, dtype=np.float32).reshape(16, 2), np.array([0, 4, 8, 12, 16], np.int32))
    return Dataset(
        annotations=Path("instances.json"),
        images=Path("images"),
        image_ids=np.array([30, 10, 20]),
        file_names=["a/one.png", "a/two.png", "three.png"],
        sizes=np.array([[40, 60], [41, 61], [42, 62]]),
        first_object=np.array([0, 2, 2, 3]),
        annotation_ids=np.array([1, 2, 3]),
        labels=np.array([1, 2, 1]),
        boxes=np.array([[0, 1, 20, 31], [2, 3, 22, 33], [4, 5, 24, 35]], np.float32),
        areas=np.array([1.0, 2.0, 3.0]),
        crowd=np.array([False, False, True]),
        flags=np.zeros(3, np.uint8),
        rings=rings,
        first_ring=np.array([0, 1, 2, 4]),
        category_ids=(1, 9),
        category_names=("disc", "ring"),
    )


def changed(name: str, at: int | tuple[int, int], value: float) -> Dataset:
    column = getattr(data(), name).copy()
    column[at] = value
    return replace(data(), **{name: column})


def moved_point() -> Dataset:
    points = data().rings.points.copy()
    points[13, 1] += 0.25
    return replace(data(), rings=data().rings._replace(points=points))


def test_the_same_data_are_the_same_wherever_they_lie():
    other = replace(data(), images=Path("elsewhere"), annotations=Path("b.json"), areas=np.full(3, np.nan))
    moved = replace(other, file_names=["one.png", "b/two.png", "c/d/three.png"])
    assert difference(identity(data()), identity(moved)) is None


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (select(data(), np.array([0, 2])), "learnt from 3 images, the data have 2 now"),
        (keep_objects(data(), np.array([True, False, True])), "learnt from 3 objects, the data have 2 now"),
        (select(data(), np.array([2, 0, 1])), "learnt from the same images in another order"),
    ],
)
def test_what_is_gone_or_stands_elsewhere_is_told(other, sentence):
    assert difference(identity(data()), identity(other)) == sentence


@pytest.mark.parametrize(
    "other",
    [
        changed("labels", 1, 1),
        changed("boxes", (2, 3), 35.5),
        changed("crowd", 2, False),
        changed("sizes", (1, 0), 99),
        changed("image_ids", 1, 11),
        changed("flags", 0, 8),
        moved_point(),
        replace(data(), file_names=["a/one.png", "a/three.png", "three.png"]),
        replace(data(), first_object=np.array([0, 1, 2, 3])),
        replace(data(), first_ring=np.array([0, 2, 3, 4])),
    ],
)
def test_what_was_changed_is_told(other):
    assert "some have another name, size, category, box or outline" in difference(identity(data()), identity(other))


def test_of_a_checkpoint_that_knows_the_number_of_images_alone_that_is_compared():
    assert difference({"images": 3}, identity(data())) is None
    assert difference({"images": 4}, identity(data())) == "learnt from 4 images, the data have 3 now"
