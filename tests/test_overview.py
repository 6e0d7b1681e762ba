"""Large images are put together from parts, smaller by a whole factor."""

import numpy as np
import pytest

from maskrcnn.data.tiles import cut_images
from maskrcnn.overview import Overview, factor_for, reduced


def test_sides_stay_below_the_longest_by_a_whole_factor():
    assert [factor_for((100, length), 50) for length in (1, 100, 101, 150)] == [2, 2, 3, 3]


def test_a_reduced_image_holds_means_also_of_what_is_left_at_its_end():
    image = np.arange(15, dtype=np.uint8).reshape(3, 5, 1)
    assert reduced(image, 2)[..., 0].tolist() == [[3, 5, 7], [11, 13, 14]]  # 2.5 + 0.5 ... 6.5, and the last row alone
    assert reduced(image, 1) is image


@pytest.mark.parametrize("longest", [10, 17, 60])
def test_parts_give_the_image_that_all_of_it_gives(longest):
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    overview = Overview((37, 53), longest)
    for x1, y1, x2, y2 in cut_images(np.array([[37, 53]]), 20, 0.4).windows.tolist()[::-1]:
        overview.add((x1, y1, x2, y2), image[y1:y2, x1:x2])
    assert (overview.image == reduced(image, factor_for((37, 53), longest))).all()
