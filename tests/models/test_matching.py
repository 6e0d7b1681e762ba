import torch

from maskrcnn.keys import uniform
from maskrcnn.models.matching import match, sample
from maskrcnn.structures import IGNORED, NEGATIVE, POSITIVE, Targets


def targets(boxes, crowd=None, valid=None):
    boxes = torch.tensor([boxes], dtype=torch.float32)
    flags = boxes.shape[:2]
    return Targets(
        boxes,
        torch.ones(flags, dtype=torch.int64),
        torch.tensor([crowd]) if crowd else torch.zeros(flags, dtype=torch.bool),
        torch.tensor([valid]) if valid else torch.ones(flags, dtype=torch.bool),
        torch.zeros(1, 0, 4),
        torch.zeros(1, flags[1] + 1, dtype=torch.int64),
    )


def candidates(*boxes):
    return torch.tensor([boxes], dtype=torch.float32)


THRESHOLDS = {"positive_iou": 0.7, "negative_iou": 0.3}


def test_candidates_are_positive_ignored_or_negative_by_their_best_overlap():
    boxes = candidates([0, 0, 20, 10], [0, 0, 20, 20], [0, 5, 20, 35], [100, 100, 120, 110])
    target, label = match(boxes, targets([[0, 0, 20, 10], [100, 0, 101, 1]]), **THRESHOLDS)
    assert label.tolist() == [[POSITIVE, IGNORED, NEGATIVE, NEGATIVE]]  # overlaps 1, 1/2, 1/7, 0
    assert target[0, :3].tolist() == [0, 0, 0]


def test_every_object_keeps_its_best_candidates_however_little_they_overlap():
    boxes = candidates([0, 0, 20, 10], [0, 90, 20, 100], [0, 90, 20, 100], [50, 50, 60, 60])
    _, label = match(boxes, targets([[0, 0, 20, 10], [0, 98, 20, 118]]), **THRESHOLDS, keep_best=True)
    assert label.tolist() == [[POSITIVE, POSITIVE, POSITIVE, NEGATIVE]]


def test_an_object_that_touches_nothing_rescues_nothing():
    _, label = match(candidates([0, 0, 2, 1]), targets([[50, 50, 60, 70]]), **THRESHOLDS, keep_best=True)
    assert label.tolist() == [[NEGATIVE]]


def test_padded_slots_match_nothing():
    _, label = match(candidates([0, 0, 20, 10]), targets([[0, 0, 20, 10]], valid=[False]), **THRESHOLDS, keep_best=True)
    assert label.tolist() == [[NEGATIVE]]


def test_boxes_in_a_crowd_are_nobodys_background_and_nobodys_match():
    boxes = candidates([0, 0, 40, 20], [30, 0, 50, 20], [35, 0, 55, 20])  # inside, half inside, a quarter inside
    _, label = match(boxes, targets([[0, 0, 40, 20]], crowd=[True]), **THRESHOLDS, keep_best=True)
    assert label.tolist() == [[IGNORED, IGNORED, NEGATIVE]]


def test_the_sample_has_positives_first_up_to_their_share_and_no_ignored():
    label = torch.full((2, 50), NEGATIVE)
    label[0, 10:30] = POSITIVE
    label[1, 7] = POSITIVE
    label[:, 40:] = IGNORED
    index, valid = sample(label, torch.tensor([3, 4]), num=16, positive_fraction=0.25, stream=1)
    drawn = label.gather(1, index)
    assert valid.all()
    assert drawn[0].tolist() == [POSITIVE] * 4 + [NEGATIVE] * 12
    assert drawn[1].tolist() == [POSITIVE] + [NEGATIVE] * 15
    assert all(len(set(row)) == 16 for row in index.tolist())


def test_slots_without_a_box_are_not_valid():
    label = torch.tensor([[POSITIVE, IGNORED, NEGATIVE, IGNORED]])
    index, valid = sample(label, torch.tensor([9]), num=64, positive_fraction=0.5, stream=1)
    assert index.shape == (1, 4)
    assert valid.tolist() == [[True, True, False, False]]
    assert index[0, :2].tolist() == [0, 2]


def test_an_images_sample_does_not_depend_on_its_neighbours():
    label = torch.randint(-1, 2, (3, 400), generator=torch.Generator().manual_seed(0))
    keys = torch.tensor([11, -5, 2**60])
    together = sample(label, keys, num=32, positive_fraction=0.25, stream=2)[0]
    alone = sample(label[1:2], keys[1:2], num=32, positive_fraction=0.25, stream=2)[0]
    assert together[1].tolist() == alone[0].tolist()


def test_random_numbers_are_uniform_and_differ_by_key_stream_and_position():
    numbers = uniform(torch.tensor([1, 2]), 20_000, stream=1)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    histogram = torch.histc(numbers, bins=20, min=0, max=1) / 2000
    assert (histogram - 1).abs().max() < 0.1
    assert abs(torch.corrcoef(numbers)[0, 1]) < 0.02
    assert abs(torch.corrcoef(torch.stack([numbers[0, 1:], numbers[0, :-1]]))[0, 1]) < 0.02
    assert abs(torch.corrcoef(torch.stack([numbers[0], uniform(torch.tensor([1]), 20_000, stream=2)[0]]))[0, 1]) < 0.02
