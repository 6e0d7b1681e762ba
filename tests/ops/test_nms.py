import inspect

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.ops.nms import nms, reference

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [nms, reference.nms])

# Widths and heights differ. Against the first, of 6 x 4: the second shares 20 of 28 (5/7), the third 12 of 36 (1/3).
ROW = [[0.0, 0, 6, 4], [1, 0, 7, 4], [3, 0, 9, 4], [20, 10, 22, 17]]


def one_image(boxes, groups=None, valid=None):
    boxes = torch.tensor(boxes).view(1, -1, 4)
    groups = torch.zeros(boxes.shape[:2], dtype=torch.long) if groups is None else torch.tensor([groups])
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool) if valid is None else torch.tensor([valid])
    return boxes, groups, valid


def random_batch(images=3, count=150, seed=0):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=random) * torch.tensor([90.0, 50.0])
    size = torch.rand(images, count, 2, generator=random) * torch.tensor([40.0, 30.0])
    groups = torch.randint(0, 3, (images, count), generator=random)
    return torch.cat([corner, corner + size], -1), groups, torch.rand(images, count, generator=random) > 0.1


def survivors(result):
    index, kept = result
    return [row[mask].tolist() for row, mask in zip(index, kept, strict=True)]


@IMPLEMENTATIONS
def test_a_box_is_dropped_when_it_overlaps_a_kept_one_more_than_the_threshold(implementation):
    assert survivors(implementation(*one_image(ROW), threshold=0.5, num_keep=4)) == [[0, 2, 3]]
    assert survivors(implementation(*one_image(ROW), threshold=0.8, num_keep=4)) == [[0, 1, 2, 3]]
    assert survivors(implementation(*one_image(ROW), threshold=0.3, num_keep=4)) == [[0, 3]]


@IMPLEMENTATIONS
def test_a_dropped_box_drops_nobody(implementation):
    # Box 1 would drop box 2 (shares 16 of 32, 1/2) but is dropped by box 0 itself.
    index, kept = implementation(*one_image(ROW), threshold=0.45, num_keep=4)
    assert survivors((index, kept)) == [[0, 2, 3]]


@IMPLEMENTATIONS
def test_overlap_equal_to_the_threshold_is_allowed(implementation):
    boxes = [[0.0, 0, 8, 3], [0, 0, 4, 3], [0, 0, 8, 3]]  # 12 of 24, then the same box again
    assert survivors(implementation(*one_image(boxes), threshold=0.5, num_keep=3)) == [[0, 1]]
    assert survivors(implementation(*one_image(boxes), threshold=1.0, num_keep=3)) == [[0, 1, 2]]


@IMPLEMENTATIONS
def test_different_groups_never_suppress_each_other(implementation):
    boxes = [[0.0, 0, 6, 4]] * 5
    assert survivors(implementation(*one_image(boxes, [7, 2, 7, -1, 2]), threshold=0.5, num_keep=5)) == [[0, 1, 3]]


@IMPLEMENTATIONS
def test_boxes_that_are_not_valid_take_no_part(implementation):
    valid = [False, True, True, False]
    assert survivors(implementation(*one_image(ROW, valid=valid), threshold=0.45, num_keep=4)) == [[1]]


@IMPLEMENTATIONS
def test_empty_and_broken_boxes_are_kept_and_suppress_nothing(implementation):
    nan = float("nan")
    boxes = [[5.0, 5, 5, 9], [5, 5, 5, 9], [9, 9, 4, 2], [nan, nan, nan, nan], [4, 4, 9, 9], [4, 4, 9, 9]]
    assert survivors(implementation(*one_image(boxes), threshold=0.0, num_keep=6)) == [[0, 1, 2, 3, 4]]


@IMPLEMENTATIONS
def test_only_the_first_survivors_are_returned(implementation):
    index, kept = implementation(*one_image(ROW), threshold=0.5, num_keep=2)
    assert index.tolist() == [[0, 2]]
    assert kept.tolist() == [[True, True]]


@IMPLEMENTATIONS
@pytest.mark.parametrize(("count", "num_keep"), [(0, 3), (4, 6), (4, 0), (0, 0)])
def test_slots_left_over_hold_position_zero_and_false(implementation, count, num_keep):
    index, kept = implementation(*one_image(ROW[:count]), threshold=0.5, num_keep=num_keep)
    expected = [0, 2, 3][: min(count, num_keep)]
    assert index.tolist() == [expected + [0] * (num_keep - len(expected))]
    assert kept.tolist() == [[True] * len(expected) + [False] * (num_keep - len(expected))]
    assert (index.dtype, kept.dtype) == (torch.int64, torch.bool)


@IMPLEMENTATIONS
def test_no_images_give_no_rows(implementation):
    index, kept = implementation(*(tensor[:0] for tensor in random_batch()), threshold=0.5, num_keep=3)
    assert index.shape == kept.shape == (0, 3)


@pytest.mark.parametrize(("threshold", "num_keep"), [(0.0, 500), (0.3, 40), (0.5, 500), (0.7, 100)])
def test_the_kernel_equals_the_reference(threshold, num_keep):
    batch = random_batch(images=5, count=300)
    expected = reference.nms(*batch, threshold=threshold, num_keep=num_keep)
    torch.testing.assert_close(nms(*batch, threshold=threshold, num_keep=num_keep), expected)


@IMPLEMENTATIONS
def test_a_long_chain_of_overlaps_keeps_every_other_box(implementation):
    # Neighbours share 1/2, boxes two apart 1/5: the longest dependence there is, across the reference's blocks.
    left = torch.arange(300.0) * 2
    chain = torch.stack([left, torch.zeros(300), left + 6, torch.full((300,), 4.0)], 1)
    assert survivors(implementation(*one_image(chain.tolist()), threshold=0.25, num_keep=300)) == [[*range(0, 300, 2)]]


def test_images_do_not_influence_each_other():
    batch = random_batch(images=9)
    together = survivors(nms(*batch, threshold=0.4, num_keep=60))
    alone = [survivors(nms(*(tensor[i : i + 1] for tensor in batch), threshold=0.4, num_keep=60))[0] for i in range(9)]
    assert together == alone


def test_half_precision_and_gradients_are_accepted():
    boxes, groups, valid = one_image(ROW)
    for given in (boxes.bfloat16(), boxes.requires_grad_()):
        index, _ = nms(given, groups, valid, threshold=0.5, num_keep=4)
        assert index.tolist() == [[0, 2, 3, 0]]
        assert not index.requires_grad


def test_shapes_that_disagree_are_named():
    boxes, groups, valid = one_image(ROW)
    with pytest.raises(ValueError, match=r"received \(1, 4, 4\), \(1, 3\), \(1, 4\)"):
        inspect.unwrap(nms)(boxes, groups[:, 1:], valid, threshold=0.5, num_keep=4)


def test_the_operator_keeps_the_rules_of_torch_library():
    torch.library.opcheck(torch.ops.maskrcnn.nms.default, (*random_batch(count=20), 0.5, 7))


@IMPLEMENTATIONS
def test_it_traces_as_one_graph(implementation):
    torch._dynamo.reset()
    batch = random_batch(images=2, count=30)
    traced = torch.compile(lambda *tensors: implementation(*tensors, threshold=0.5, num_keep=9), fullgraph=True,
                           backend="eager")  # fmt: skip
    torch.testing.assert_close(traced(*batch), implementation(*batch, threshold=0.5, num_keep=9))


@IMPLEMENTATIONS
def test_fake_tensors_give_shapes_and_types(implementation):
    with FakeTensorMode():
        boxes, groups = torch.empty(2, 30, 4), torch.empty(2, 30, dtype=torch.long)
        index, kept = implementation(boxes, groups, groups > 0, threshold=0.5, num_keep=9)
    assert (index.shape, index.dtype) == ((2, 9), torch.int64)
    assert (kept.shape, kept.dtype) == ((2, 9), torch.bool)
