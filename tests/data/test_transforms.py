import pytest
import torch
from torch.nn.functional import interpolate

from maskrcnn.config import Data
from maskrcnn.data.loader import collate
from maskrcnn.data.transforms import RawBatch, prepare, resize_targets
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.structures import Targets
from maskrcnn.view import View

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NOTHING, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CPU = torch.device("cpu")
PLAIN = Data(mean=NOTHING, std=ONE)


def empty_targets(batch, objects=8, edges=64):
    return Targets(
        boxes=torch.zeros(batch, objects, 4),
        labels=torch.zeros(batch, objects, dtype=torch.long),
        crowd=torch.zeros(batch, objects, dtype=torch.bool),
        valid=torch.zeros(batch, objects, dtype=torch.bool),
        edges=torch.zeros(batch, edges, 4),
        first_edge=torch.zeros(batch, objects + 1, dtype=torch.long),
    )


def raw_batch(pictures, sizes, bucket, flip=None, original_sizes=None, **columns):
    """Pictures, whole unless columns of their view say otherwise."""
    count = len(pictures)
    images, raw = collate([picture.numpy() for picture in pictures])
    originals = raw if original_sizes is None else torch.tensor(original_sizes)
    view = View.whole(originals, torch.tensor(sizes), torch.tensor(flip or [False] * count))
    return RawBatch(
        images=images,
        raw_sizes=raw,
        original_sizes=originals,
        view=view._replace(**{name: torch.tensor(column) for name, column in columns.items()}),
        keys=torch.arange(count),
        indices=torch.arange(count),
        image_ids=torch.arange(count),
        bucket=bucket,
    )


def noise(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8) for size in sizes]


def test_pixels_are_made_as_the_recipe_says():
    (picture,) = noise((24, 40))
    raw = raw_batch([picture], [(12, 20)], (32, 64), [True])
    alone = picture.flip(1).permute(2, 0, 1)[None].float()
    for antialias in (True, False):
        expected = interpolate(alone, (12, 20), mode="bilinear", antialias=antialias)[0]
        expected = (expected - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        batch = prepare(raw, CPU, Data(antialias=antialias))
        torch.testing.assert_close(batch.pixels[0, :, :12, :20], expected, atol=1e-4, rtol=0)
        assert batch.sizes.tolist() == [[12, 20]]
    levels = prepare(raw, CPU, Data(mean=NOTHING, std=ONE, whole_levels=True)).pixels
    assert torch.equal(levels, levels.round())


def test_a_picture_that_keeps_its_size_keeps_its_values():
    (picture,) = noise((20, 33))
    batch = prepare(raw_batch([picture], [(20, 33)], (32, 64)), CPU, PLAIN)
    assert torch.equal(batch.pixels[0, :, :20, :33], picture.permute(2, 0, 1).float())


def test_red_stays_the_first_channel_and_rows_stay_rows():
    picture = torch.zeros(2, 4, 3, dtype=torch.uint8)
    picture[0, 3, 0] = 200  # red in the top right corner
    batch = prepare(raw_batch([picture, picture], [(2, 4)] * 2, (32, 32), [False, True]), CPU, PLAIN)
    assert batch.pixels[0].nonzero().tolist() == [[0, 0, 3]]
    assert batch.pixels[1].nonzero().tolist() == [[0, 0, 0]]


def test_a_picture_reduced_while_decoding_is_resized_from_what_was_decoded():
    (picture,) = noise((30, 50))
    batch = prepare(raw_batch([picture], [(30, 50)], (32, 64), original_sizes=[(60, 100)]), CPU, PLAIN)
    assert torch.equal(batch.pixels[0, :, :30, :50], picture.permute(2, 0, 1).float())


def test_a_window_of_a_picture_reduced_while_decoding_is_in_the_frame_of_the_original():
    (picture,) = noise((30, 50))
    window = [[20.0, 8.0, 60.0, 40.0]]  # of 60 x 100: columns 10 to 30 and rows 4 to 20 of what was decoded
    raw = raw_batch([picture], [(16, 20)], (32, 32), original_sizes=[(60, 100)], windows=window)
    assert torch.equal(prepare(raw, CPU, PLAIN).pixels[0, :, :16, :20], picture[4:20, 10:30].permute(2, 0, 1).float())


def test_pictures_of_five_bands_become_pixels_of_five_bands():
    generator = torch.Generator().manual_seed(0)
    pictures = [
        torch.randint(0, 256, (*size, 5), generator=generator, dtype=torch.uint8) for size in ((9, 14), (12, 7))
    ]
    raw = raw_batch(pictures, [(14, 9), (12, 7)], (32, 32), turns=[3, 0])
    batch = prepare(raw, CPU, Data(mean=(0.0,) * 5, std=(1.0, 2.0, 3.0, 4.0, 5.0)))
    assert batch.pixels.shape == (2, 5, 32, 32)
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    turned = torch.rot90(pictures[0], 3)
    torch.testing.assert_close(batch.pixels[0, :, :14, :9], (turned / scale).permute(2, 0, 1))
    torch.testing.assert_close(batch.pixels[1, :, :12, :7], (pictures[1] / scale).permute(2, 0, 1))
    found = resize_targets(one_object([2.0, 1.0, 6.0, 4.0], [2.0, 1.0, 6.0, 4.0]), raw.view.take(slice(1)))
    assert found.boxes[0, 0].tolist() == [5, 2, 8, 6], "turned right: x is 9 - y, y is x"


def one_object(box, edge):
    targets = empty_targets(1)
    targets.boxes[0, 0], targets.edges[0, 0] = torch.tensor(box), torch.tensor(edge)
    targets.valid[0, 0] = True
    targets.first_edge[0, 1:] = 1
    return targets


def resized_targets(targets, flip):
    return resize_targets(targets, View.whole(torch.tensor([[20, 40]]), torch.tensor([[60, 80]]), torch.tensor([flip])))


def test_boxes_and_edges_are_scaled_by_height_and_width():
    found = resized_targets(one_object([10.0, 5.0, 30.0, 15.0], [10.0, 5.0, 30.0, 7.0]), flip=False)
    assert found.boxes[0, 0].tolist() == [20, 15, 60, 45]
    assert found.edges[0, 0].tolist() == [20, 15, 60, 21]


def test_a_flip_mirrors_boxes_and_edges_but_not_padding():
    found = resized_targets(one_object([10.0, 5.0, 35.0, 15.0], [10.0, 5.0, 35.0, 7.0]), flip=True)
    assert found.boxes[0, 0].tolist() == [10, 15, 60, 45]
    assert found.edges[0, 0].tolist() == [60, 15, 10, 21], "each end is mirrored in place"
    assert torch.count_nonzero(found.boxes[0, 1:]) == torch.count_nonzero(found.edges[0, 1:]) == 0


def test_boxes_are_cut_to_the_image():
    found = resized_targets(one_object([-3.0, 5.0, 44.0, 25.0], [0.0] * 4), flip=True)
    assert found.boxes[0, 0].tolist() == [0, 15, 80, 60]
    assert found.valid[0, 0]


@pytest.mark.parametrize("box", [[10.0, 5.0, 10.2, 15.0], [10.0, 5.0, 30.0, 5.1], [40.0, 5.0, 50.0, 15.0]])
def test_boxes_too_thin_to_see_are_not_valid(box):
    assert not resized_targets(one_object(box, [0.0] * 4), flip=False).valid.any()


def test_a_box_of_one_pixel_is_valid():
    assert resized_targets(one_object([10.0, 5.0, 10.5, 5.4], [0.0] * 4), flip=False).valid.sum() == 1


def picture_with_outlines():
    """A triangle, whose edges pass through no pixel's centre, and a rectangle of whole pixels in 12 x 20 pixels."""
    triangle = [[2.1, 1.2], [13.7, 4.4], [5.3, 11.1]]
    rectangle = [[11.0, 6.0], [19.0, 6.0], [19.0, 10.0], [11.0, 10.0]]
    targets = empty_targets(1)
    targets.boxes[0, :2] = torch.tensor([[2.1, 1.2, 13.7, 11.1], [11.0, 6.0, 19.0, 10.0]])
    targets.valid[0, :2] = True
    targets.first_edge[0] = torch.tensor([0, 3, 7, 7, 7, 7, 7, 7, 7])
    for start, ring in ((0, triangle), (3, rectangle)):
        points = torch.tensor(ring)
        targets.edges[0, start : start + len(ring)] = torch.cat([points, points.roll(-1, 0)], 1)
    return targets


def bitmap(targets, number, height, width):
    """The mask of an object on the pixels of a picture."""
    side = max(height, width)
    box = torch.tensor([[0.0, 0.0, float(side), float(side)]])
    index = torch.zeros(1, dtype=torch.long)
    return rasterize(targets.edges, targets.first_edge, box, index, index + number, size=side)[0, :height, :width]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_outlines_turn_and_mirror_with_their_picture(turns, mirrored):
    targets = picture_with_outlines()
    size = [20, 12] if turns % 2 else [12, 20]
    view = View(
        torch.tensor([[0.0, 0.0, 20.0, 12.0]]), torch.tensor([size]), torch.tensor([mirrored]), torch.tensor([turns])
    )
    found = resize_targets(targets, view)
    for number in (0, 1):
        expected = torch.rot90(bitmap(targets, number, 12, 20), turns)
        expected = expected.flip(1) if mirrored else expected
        assert torch.equal(bitmap(found, number, *size), expected)
        rows, columns = expected.nonzero().T + 0.5
        left, top, right, bottom = found.boxes[0, number].tolist()
        assert left <= columns.min() <= columns.max() <= right
        assert top <= rows.min() <= rows.max() <= bottom
    assert found.valid.sum() == 2


def test_targets_of_a_window_are_those_cut_by_hand():
    view = View(torch.tensor([[3.0, 2.0, 13.0, 9.0]]), torch.tensor([[14, 30]]), torch.tensor([False]))
    found = resize_targets(picture_with_outlines(), view)  # columns three times as large, rows twice
    assert found.boxes[0, :2].tolist() == [[0, 0, 30, 14], [24, 8, 30, 14]]
    assert found.edges[0, 3].tolist() == [24, 8, 48, 8], "outlines reach beyond the window"
    window = bitmap(picture_with_outlines(), 1, 12, 20)[2:9, 3:13]
    assert torch.equal(bitmap(found, 1, 14, 30), window.repeat_interleave(2, 0).repeat_interleave(3, 1))


def test_objects_outside_the_window_are_not_valid():
    view = View(torch.tensor([[15.0, 0.0, 20.0, 12.0]]), torch.tensor([[12, 5]]), torch.tensor([True]))
    found = resize_targets(picture_with_outlines(), view)
    assert found.valid[0, :2].tolist() == [False, True]
    assert found.boxes[0, :2].tolist() == [[0, 0, 0, 0], [1, 6, 5, 10]]
