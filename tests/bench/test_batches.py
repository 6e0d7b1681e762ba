"""Batches are full, of one padded size, and hold real photos."""

import numpy as np
import pytest

from maskrcnn.bench.batches import full_batches, read_bucket, widest_bucket
from maskrcnn.config import Data
from maskrcnn.data.buckets import resized_sizes

SETTINGS = Data(short_sides=(32, 48), max_side=64, num_buckets=2)


def test_photos_of_the_most_frequent_bucket_are_repeated_to_fill_batches(shapes):
    steps = full_batches(shapes, SETTINGS, None, 4)
    sizes = resized_sizes(shapes.sizes, np.full(len(shapes.sizes), 48), 64)
    assert {len(step.indices) for step in steps} == {4}
    assert len({step.bucket for step in steps}) == 1
    for step in steps:
        assert (step.view.sizes.numpy() == sizes[step.indices]).all()
        assert (step.view.sizes.numpy() <= np.array(step.bucket)).all()
        assert not step.view.mirrored.any()


def test_a_given_bucket_takes_every_photo_that_fits(shapes):
    [step] = full_batches(shapes, SETTINGS, (64, 64), 5)
    assert step.bucket == (64, 64)
    assert sorted(step.indices) == [0, 1, 2, 3, 4]
    assert len(set(step.keys)) == 5


def test_a_bucket_that_holds_no_photo_is_refused(shapes):
    with pytest.raises(ValueError, match=r"--bucket: no image of .* fits into 32x32, the smallest of them is"):
        full_batches(shapes, SETTINGS, (32, 32), 2)


@pytest.mark.parametrize("text", ["800", "800x1333", "0x32", "ax32", "-32x32", "32x32x32"])
def test_a_bucket_is_two_multiples_of_32(text):
    with pytest.raises(ValueError, match="expected HEIGHTxWIDTH in multiples of 32"):
        read_bucket(text)


def test_the_widest_bucket_holds_the_largest_landscape():
    assert widest_bucket(Data()) == (800, 1344)
