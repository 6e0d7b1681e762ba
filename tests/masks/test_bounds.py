import numpy as np

from maskrcnn.masks.bounds import bounds


def test_each_owner_has_the_box_around_its_rings():
    points = np.array([[1, 9], [4, 2], [3, 3], [-5, 7], [0.5, 8], [10, 20], [30, 25], [12, 11]], np.float32)
    found = bounds(points, np.array([3, 2, 3]), np.array([2, 0, 2]), 4)
    assert found[[0, 2]].tolist() == [[-5, 7, 0.5, 8], [1, 2, 30, 25]]
    assert found[1].tolist() == found[3].tolist() == [np.inf, np.inf, -np.inf, -np.inf]
    assert bounds(points[:0], np.zeros(0, np.int64), np.zeros(0, np.int64), 0).shape == (0, 4)
