import torch

from maskrcnn.models.anchors import cell_anchors, level_anchors


def test_anchors_keep_the_area_and_take_height_over_width():
    tall, wide = cell_anchors(32.0, [4.0, 0.25])
    assert tall.tolist() == [-8.0, -32.0, 8.0, 32.0]
    assert wide.tolist() == [-32.0, -8.0, 32.0, 8.0]


def test_anchors_sit_on_the_centres_of_cells_row_by_row():
    base = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    anchors = level_anchors(base, height=2, width=3, stride=(8, 8))
    assert anchors.shape == (12, 4)
    assert anchors[0].tolist() == [3.0, 2.0, 5.0, 6.0]
    assert anchors[3].tolist() == [12.0, 4.0, 12.0, 4.0]  # second shape, cell (0, 1): one to the right
    assert anchors[6].tolist() == [3.0, 10.0, 5.0, 14.0]  # cell (1, 0): one row down


def test_anchors_may_sit_on_corners_with_strides_of_their_own_down_and_right():
    anchors = level_anchors(torch.zeros(1, 4), height=2, width=2, stride=(61, 64), offset=0.0)
    assert anchors[:, :2].tolist() == [[0, 0], [64, 0], [0, 61], [64, 61]]


def test_rounded_anchors_have_whole_pixels_half_to_even():
    assert cell_anchors(32.0, [0.5], rounded=True).tolist() == [[-23.0, -11.0, 23.0, 11.0]]  # 45.25 x 22.63
    assert cell_anchors(5.0, [1.0], rounded=True).tolist() == [[-2.0, -2.0, 2.0, 2.0]]
