"""The GPU kernel gives the positions and the flags of the reference, bit for bit."""

import pytest
import torch

from maskrcnn.ops.nms import reference


@pytest.fixture
def both(gpu):
    """Asserts that the kernel equals the reference, and returns the survivors of each image."""
    from maskrcnn.ops.nms import triton

    def compare(boxes, groups, valid, *, threshold, num_keep):
        boxes, groups, valid = boxes.to(gpu), groups.to(gpu), valid.to(gpu)
        index, kept = triton.nms(boxes, groups, valid, threshold, num_keep)
        expected, expected_kept = reference.nms(boxes, groups, valid, threshold=threshold, num_keep=num_keep)
        assert (index.dtype, kept.dtype, index.device) == (torch.int64, torch.bool, boxes.device)
        assert index.tolist() == expected.tolist()
        assert kept.tolist() == expected_kept.tolist()
        return [row[mask].tolist() for row, mask in zip(index, kept, strict=True)]

    return compare


def random_batch(images, count, *, num_groups=3, seed=0):
    """Boxes twice as wide as high in a field that crowds them."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=random) * torch.tensor([90.0, 50.0])
    size = torch.rand(images, count, 2, generator=random) * torch.tensor([40.0, 20.0])
    groups = torch.randint(-1, num_groups - 1, (images, count), generator=random)
    return torch.cat([corner, corner + size], -1), groups, torch.rand(images, count, generator=random) > 0.1


def one_image(boxes):
    boxes = torch.tensor(boxes).view(1, -1, 4)
    return boxes, torch.zeros(boxes.shape[:2], dtype=torch.int64), torch.ones(boxes.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize(("threshold", "num_keep"), [(0.0, 60), (0.3, 150), (0.7, 20), (1.0, 300)])
def test_random_boxes_of_several_images_and_groups(both, threshold, num_keep):
    both(*random_batch(3, 150), threshold=threshold, num_keep=num_keep)


@pytest.mark.parametrize("count", [0, 1, 31, 64, 65, 128])
def test_any_number_of_boxes(both, count):
    both(*random_batch(2, count, seed=count), threshold=0.4, num_keep=40)


def test_more_slots_than_boxes_and_survivors_that_fill_several_tiles(both):
    survivors = both(*random_batch(1, 200, num_groups=40), threshold=0.6, num_keep=230)
    assert len(survivors[0]) > 2 * 64


@pytest.mark.parametrize("num_keep", [0, 1, 63, 64, 65])
def test_it_ends_with_the_last_wanted_survivor(both, num_keep):
    boxes = torch.arange(130.0)[:, None] * 10 + torch.tensor([0.0, 0, 6, 3])
    assert both(*one_image(boxes.tolist()), threshold=0.5, num_keep=num_keep) == [[*range(num_keep)]]


def test_no_images(both):
    assert both(*(tensor[:0] for tensor in random_batch(1, 5)), threshold=0.5, num_keep=3) == []


def test_overlaps_equal_to_the_threshold_are_allowed(both):
    # Whole sides below 8: many pairs share exactly a half, a third or all of their union.
    random = torch.Generator().manual_seed(1)
    corner = torch.randint(0, 6, (2, 140, 2), generator=random)
    boxes = torch.cat([corner, corner + torch.randint(1, 8, (2, 140, 2), generator=random)], -1).float()
    groups, valid = torch.zeros(2, 140, dtype=torch.int64), torch.ones(2, 140, dtype=torch.bool)
    for threshold in (1 / 3, 0.5, 1.0):
        both(boxes, groups, valid, threshold=threshold, num_keep=140)


def test_thirds_and_tenths_round_as_in_the_reference(both):
    # Steps that float32 cannot hold: a fused multiplication and addition would decide some ties otherwise.
    side = torch.arange(1, 66)[:, None] * torch.tensor([0.0, 0.0, 0.1, 1 / 3])
    boxes = torch.cat([side, side.flip(0)])[None]
    groups, valid = torch.zeros(1, 130, dtype=torch.int64), torch.ones(1, 130, dtype=torch.bool)
    for numerator in range(1, 10):
        both(boxes, groups, valid, threshold=numerator / 10, num_keep=130)


def test_duplicates_leave_one_of_each_group(both):
    boxes, groups, valid = one_image([[3.0, 1, 9, 4]] * 150)
    groups = groups + torch.arange(150) // 50 * 2**40  # beyond 32 bits
    assert both(boxes, groups, valid, threshold=0.5, num_keep=150) == [[0, 50, 100]]


def test_a_long_chain_of_overlaps_keeps_every_other_box(both):
    left = torch.arange(150.0) * 2
    chain = torch.stack([left, torch.zeros(150), left + 6, torch.full((150,), 4.0)], 1)
    assert both(*one_image(chain.tolist()), threshold=0.25, num_keep=150) == [[*range(0, 150, 2)]]


def test_empty_and_broken_boxes_are_kept_and_suppress_nothing(both):
    nan = float("nan")
    boxes = [[5.0, 5, 5, 9], [5, 5, 5, 9], [9, 9, 4, 2], [nan, nan, nan, nan], [4, 4, 9, 8], [4, 4, 9, 8]]
    boxes += [[0, 0, nan, 5], [nan, 0, 9, 9], [4, 4, 9, 8]]
    assert both(*one_image(boxes), threshold=0.0, num_keep=9) == [[0, 1, 2, 3, 4, 6, 7]]


def test_boxes_that_are_not_valid_take_no_part(both):
    boxes, groups, _ = random_batch(2, 100)
    assert both(boxes, groups, torch.zeros(2, 100, dtype=torch.bool), threshold=0.3, num_keep=9) == [[], []]
    valid = torch.arange(100).expand(2, -1) >= 70
    assert all(min(row) == 70 for row in both(boxes, groups, valid, threshold=0.3, num_keep=9))


def test_memory_in_any_order_is_accepted(both):
    boxes, groups, valid = random_batch(1, 70)
    boxes = boxes.transpose(1, 2).contiguous().transpose(1, 2)
    both(boxes.expand(2, -1, -1), groups.expand(2, -1), valid.expand(2, -1), threshold=0.5, num_keep=30)
