"""What counts as warm, and pictures that are repeated."""

import numpy as np
import pytest
import torch

from maskrcnn.bench.evaluate import Course, repeated, warm_seconds
from maskrcnn.data.buckets import Step
from maskrcnn.view import View


def steps(*buckets):
    nothing = np.zeros(2, np.int64)
    view = View.whole(*2 * [torch.ones(2, 2, dtype=torch.int64)])
    return [Step(bucket, nothing, view, nothing) for bucket in buckets]


WIDE, TALL = (32, 64), (64, 32)


def test_batches_of_a_new_size_do_not_count_nor_do_those_that_waited_for_one():
    plan = steps(WIDE, WIDE, WIDE, WIDE, TALL, TALL, TALL)
    course = Course(0.0, [9.0, 10.0, 11.0, 18.0, 19.0, 20.0, 22.0], end=25.5)
    # With one cold batch of a size the first and the fifth are cold, and the fourth came only when the fifth was on its
    # way. Behind the last none began. The other three took a second each; 3.5 seconds after the last are shared by all
    # 14 images.
    assert warm_seconds(course, plan, cold=1) == pytest.approx(3.0 / 6 + 3.5 / 14)


@pytest.mark.parametrize("arrivals", [[9.0], [9.0, 18.0], [9.0, 18.0, 18.1]])
def test_without_warm_batches_there_is_no_number(arrivals):
    assert warm_seconds(Course(0.0, arrivals, end=20.0), steps(WIDE, TALL, TALL)[: len(arrivals)], cold=1) is None


def test_repeated_pictures_have_ids_and_objects_of_their_own(shapes):
    many = repeated(shapes, 12)
    assert len(set(many.image_ids)) == 12
    assert many.file_names[:5] == many.file_names[5:10] == list(shapes.file_names)
    first = np.diff(shapes.first_object)
    assert (np.diff(many.first_object) == np.resize(first, 12)).all()
    assert len(set(many.annotation_ids)) == len(many.annotation_ids)
    assert (many.boxes[: len(shapes.boxes)] == shapes.boxes).all()
