import pytest
import torch
from torch.nn.functional import interpolate

from maskrcnn.config import Data
from maskrcnn.data.transforms import RawBatch, prepare, resize_targets
from maskrcnn.structures import Targets

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


def raw_batch(pictures, sizes, bucket, flip=None, original_sizes=None):
    """Noise around each picture, so that reading beyond it shows."""
    raw = torch.tensor([picture.shape[:2] for picture in pictures])
    images = torch.randint(0, 256, (len(pictures), *raw.amax(dim=0), 3), dtype=torch.uint8)
    for image, picture in zip(images, pictures, strict=True):
        image[: picture.shape[0], : picture.shape[1]] = picture
    count = len(pictures)
    return RawBatch(
        images=images,
        raw_sizes=raw,
        sizes=torch.tensor(sizes),
        original_sizes=raw if original_sizes is None else torch.tensor(original_sizes),
        flip=torch.tensor(flip or [False] * count),
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


def one_object(box, edge):
    targets = empty_targets(1)
    targets.boxes[0, 0], targets.edges[0, 0] = torch.tensor(box), torch.tensor(edge)
    targets.valid[0, 0] = True
    targets.first_edge[0, 1:] = 1
    return targets


def resized_targets(targets, flip):
    return resize_targets(targets, torch.tensor([[20.0, 40.0]]), torch.tensor([[60.0, 80.0]]), torch.tensor([flip]))


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
