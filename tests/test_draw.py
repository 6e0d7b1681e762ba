import numpy as np
import pytest

from maskrcnn.draw import LABELLED, PALETTE, _free_rectangle, class_color, draw_instances

GREY = np.full((480, 640, 3), 128, np.uint8)


def test_a_mask_tints_its_inside_and_leaves_the_rest_as_it_was():
    mask = np.zeros((480, 640), bool)
    mask[100:300, 200:400] = True
    drawn = np.asarray(draw_instances(GREY, _boxes((200, 100, 400, 300)), [mask], ["cat"], labels=[1]))
    assert drawn.shape == (480, 640, 3)
    inside = drawn[250, 300].astype(int)
    np.testing.assert_allclose(inside, 128 + 0.36 * (np.array(PALETTE[0]) - 128), atol=1)
    assert (drawn[310:] == 128).all()
    assert (drawn[:, 420:] == 128).all()


def test_the_outline_runs_along_the_edge_of_the_mask_and_of_its_hole():
    mask = np.zeros((480, 640), bool)
    mask[100:300, 200:500] = True
    mask[150:250, 300:400] = False
    drawn = np.asarray(draw_instances(GREY, _boxes((200, 100, 500, 300)), [mask], ["ring"], labels=[2])).astype(int)
    color = np.array(PALETTE[1])
    for row, column in ((200, 200), (299, 350), (150, 350), (200, 400)):
        assert np.abs(drawn[row, column] - color).max() < 25
    np.testing.assert_array_equal(drawn[200, 350], 128)  # the hole stays clear


def test_a_mask_that_reaches_the_border_has_no_outline_there():
    mask = np.zeros((480, 640), bool)
    mask[200:400, :300] = True
    drawn = np.asarray(draw_instances(GREY, _boxes((0, 200, 300, 400)), [mask], ["cat"], labels=[1]))
    np.testing.assert_array_equal(drawn[350, 0], drawn[350, 150])


def test_small_pictures_are_enlarged_by_a_whole_factor():
    image = np.zeros((96, 128, 3), np.uint8)
    assert draw_instances(image, _boxes(), [], []).size == (512, 384)
    assert draw_instances(GREY, _boxes(), [], []).size == (640, 480)


def test_a_picture_without_objects_comes_back_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (420, 400, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(draw_instances(image, _boxes(), [], [])), image)


def test_boxes_are_drawn_where_there_are_no_masks():
    drawn = np.asarray(draw_instances(GREY, _boxes((200, 100, 400, 300)), None, ["cat"], labels=[3]))
    np.testing.assert_array_equal(drawn[200, 200], PALETTE[2])
    np.testing.assert_array_equal(drawn[299, 300], PALETTE[2])
    np.testing.assert_array_equal(drawn[200, 300], 128)


@pytest.mark.parametrize("box", [(0, 0, 640, 480), (600, 0, 640, 20), (0, 470, 30, 480), (630, 470, 640, 480)])
def test_chips_stay_inside_the_picture(box):
    place = _free_rectangle(np.array(box, float), (90, 20), (640, 480), [])
    assert place is not None
    assert place[0] >= 0
    assert place[1] >= 0
    assert place[2] <= 640
    assert place[3] <= 480


def test_chips_do_not_hide_one_another():
    box = np.array([100.0, 100.0, 200.0, 200.0])
    placed = []
    while (place := _free_rectangle(box, (90, 20), (640, 480), placed)) is not None:
        placed.append(place)
    assert len(placed) == 4  # above, inside, below, lower right corner
    canvas = np.zeros((480, 640), int)
    for x1, y1, x2, y2 in placed:
        canvas[y1:y2, x1:x2] += 1
    assert canvas.max() == 1


def test_a_crowded_picture_keeps_the_chips_of_the_most_certain_only():
    corners = np.random.default_rng(0).uniform(20, 440, (150, 2))
    boxes = np.concatenate([corners, corners + 12], axis=1)
    drawn = np.asarray(draw_instances(GREY, boxes, [np.zeros((480, 640), bool)] * 150, ["nucleus"] * 150, [0.9] * 150))
    changed = (drawn != 128).any(axis=2).mean()
    assert 0.5 * LABELLED < changed <= LABELLED


def test_every_class_has_a_colour_and_neighbours_differ():
    colors = [class_color(label) for label in range(1, 61)]
    assert len(set(colors)) == 60
    assert all(0 <= value <= 255 for color in colors for value in color)


def test_colours_follow_names_where_no_labels_are_given():
    mask = np.zeros((480, 640), bool)
    mask[200:300, 200:300] = True
    boxes = _boxes((200, 200, 300, 300))
    named = np.asarray(draw_instances(GREY, boxes, [mask], ["dog"]))
    labelled = np.asarray(draw_instances(GREY, boxes, [mask], ["dog"], labels=[1]))
    np.testing.assert_array_equal(named, labelled)


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="received 2 boxes, 1 names, 2 scores"):
        draw_instances(GREY, _boxes((0, 0, 1, 1), (1, 1, 2, 2)), None, ["cat"], [0.5, 0.6])


def _boxes(*boxes):
    return np.array(boxes, np.float32).reshape(-1, 4)
