import inspect

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.ops.match import cpu, match, reference
from maskrcnn.structures import IGNORED, NEGATIVE, POSITIVE

THRESHOLDS = (0.7, 0.3)


@pytest.fixture(params=["reference", "cpu", "triton"])
def implementation(request):
    """Each of the three, on the device it is for."""
    if request.param != "triton":
        return {"reference": reference, "cpu": cpu}[request.param].match
    device = request.getfixturevalue("gpu")
    from maskrcnn.ops.match import triton

    return lambda *given: triton.match(*(part.to(device) if torch.is_tensor(part) else part for part in given))


def anchors(height=12, width=20, stride=8):
    """Three at each cell row by row, twice as wide as high, square, and narrow: many overlap an object equally."""
    y, x = torch.meshgrid(*(torch.arange(n) * float(stride) + stride / 2 for n in (height, width)), indexing="ij")
    centre = torch.stack([x, y], -1).view(-1, 1, 2)
    half = torch.tensor([[16.0, 8], [11, 11], [7, 19]])
    return torch.cat([centre - half, centre + half], -1).view(-1, 4)


def objects(num_images, num_slots, seed=0):
    """Boxes in the first two thirds of the slots, every fifth a crowd; NaN in the slots that hold none."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(num_images, num_slots, 2, generator=random) * torch.tensor([140.0, 80.0])
    boxes = torch.cat([corner, corner + torch.rand(num_images, num_slots, 2, generator=random) * 50], -1)
    slot = torch.arange(num_slots).expand(num_images, -1)
    used = slot <= num_slots * 2 // 3
    return torch.where(used[:, :, None], boxes, float("nan")), used & (slot % 5 != 4), used & (slot % 5 == 4)


def one_image(candidates, boxes, crowd=()):
    candidates, boxes = torch.tensor([candidates], dtype=torch.float32), torch.tensor([boxes], dtype=torch.float32)
    is_crowd = torch.tensor([[number in crowd for number in range(boxes.shape[1])]])
    return candidates, boxes, ~is_crowd, is_crowd


def assert_equals_the_reference(implementation, candidates, boxes, real, crowd, *settings):
    found = implementation(candidates, boxes, real, crowd, *settings)
    expected = reference.match(candidates, boxes, real, crowd, *settings)
    assert [part.dtype for part in found] == [torch.int64, torch.int64]
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    return found


def test_candidates_are_positive_ignored_or_negative_by_their_best_overlap(implementation):
    candidates = [[0, 0, 20, 10], [0, 0, 20, 20], [0, 5, 20, 35], [100, 100, 120, 110]]
    given = one_image(candidates, [[90, 0, 91, 1], [0, 0, 20, 10]])
    target, label = implementation(*given, *THRESHOLDS, False)
    assert target.tolist() == [[1, 1, 1, 0]]  # overlaps 1, 1/2, 1/7, 0
    assert label.tolist() == [[POSITIVE, IGNORED, NEGATIVE, NEGATIVE]]


def test_overlaps_equal_to_a_threshold_belong_to_the_side_above(implementation):
    given = one_image([[0, 0, 8, 3], [0, 0, 4, 3], [0, 0, 2, 3]], [[0, 0, 8, 3]])  # overlaps 1, 1/2, 1/4
    assert implementation(*given, 1.0, 0.25, False)[1].tolist() == [[POSITIVE, IGNORED, IGNORED]]
    assert implementation(*given, 0.5, 0.5, False)[1].tolist() == [[POSITIVE, POSITIVE, NEGATIVE]]


def test_of_equal_overlaps_the_first_object_counts(implementation):
    given = one_image([[0, 0, 20, 10]], [[50, 0, 70, 10], [0, 0, 20, 5], [0, 5, 20, 10], [0, 0, 20, 5]])
    assert implementation(*given, *THRESHOLDS, False)[0].tolist() == [[1]]


def test_every_object_keeps_all_its_best_candidates_however_little_they_overlap(implementation):
    candidates = [[0, 0, 20, 10], [0, 90, 20, 100], [0, 90, 20, 100], [50, 50, 60, 60]]
    given = one_image(candidates, [[0, 0, 20, 10], [0, 98, 20, 118], [200, 0, 210, 5]])
    assert implementation(*given, *THRESHOLDS, True)[1].tolist() == [[POSITIVE, POSITIVE, POSITIVE, NEGATIVE]]
    assert implementation(*given, *THRESHOLDS, False)[1].tolist() == [[POSITIVE, NEGATIVE, NEGATIVE, NEGATIVE]]


def test_crowds_are_nobodys_background_and_nobodys_match(implementation):
    candidates = [[0, 0, 40, 20], [30, 0, 50, 20], [35, 0, 55, 20]]  # inside, half inside, a quarter inside
    target, label = implementation(*one_image(candidates, [[80, 0, 90, 5], [0, 0, 40, 20]], {1}), *THRESHOLDS, True)
    assert target.tolist() == [[0, 0, 0]]
    assert label.tolist() == [[IGNORED, IGNORED, NEGATIVE]]


def test_an_object_in_a_crowd_is_still_found(implementation):
    given = one_image([[0, 0, 40, 20], [0, 0, 40, 40]], [[0, 0, 90, 90], [0, 0, 40, 20]], {0})
    target, label = implementation(*given, *THRESHOLDS, True)
    assert target.tolist() == [[1, 1]]
    assert label.tolist() == [[POSITIVE, IGNORED]]


def test_without_objects_all_are_negative(implementation):
    candidates, boxes, real, crowd = one_image([[0, 0, 40, 20], [5, 0, 9, 9]], [[0, 0, 40, 20]])
    target, label = implementation(candidates, boxes, real & False, crowd, *THRESHOLDS, True)
    assert target.tolist() == [[0, 0]]
    assert label.tolist() == [[NEGATIVE, NEGATIVE]]


@pytest.mark.parametrize("num_slots", [1, 9, 32])
@pytest.mark.parametrize("keep_best", [True, False])
def test_anchors_of_several_images_equal_the_reference(implementation, num_slots, keep_best):
    candidates = anchors().expand(3, -1, -1)  # 720 anchors: several blocks, the last one not full
    given = objects(3, num_slots, seed=num_slots)
    _, label = assert_equals_the_reference(implementation, candidates, *given, 0.6, 0.3, keep_best)
    if keep_best:
        assert (label == POSITIVE).any(dim=1).all()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 512, 513])
def test_any_number_of_candidates_equals_the_reference(implementation, count):
    random = torch.Generator().manual_seed(count)
    candidates = anchors()[torch.randint(0, 720, (2, count), generator=random)]
    assert_equals_the_reference(implementation, candidates, *objects(2, 8), 0.5, 0.5, True)


def test_thirds_and_tenths_round_as_in_the_reference(implementation):
    # Sides that float32 cannot hold: a fused multiplication and addition would decide some ties otherwise.
    side = torch.arange(1, 66)[:, None] * torch.tensor([0.0, 0.0, 0.1, 1 / 3])
    real = torch.ones(1, 33, dtype=torch.bool)
    for tenths in (1, 3, 7):
        settings = (tenths / 10, tenths / 10, True)
        assert_equals_the_reference(implementation, side.flip(0)[None], side[None, ::2], real, ~real, *settings)


def test_empty_and_inverted_boxes_equal_the_reference(implementation):
    boxes = [[5, 5, 5, 9], [5, 5, 5, 9], [9, 9, 4, 2], [4, 4, 9, 8], [0, 0, 0, 0], [-3, -2, 1, 2], [9, 2, 4, 9]]
    candidates, boxes, real, crowd = one_image(boxes, boxes, {6})
    for keep_best in (True, False):
        assert_equals_the_reference(implementation, candidates, boxes, real, crowd, 0.5, 0.5, keep_best)


def test_candidates_of_each_image_are_its_own(implementation):
    candidates = torch.stack([anchors(6, 9), anchors(6, 9).flip(0) + 3])
    assert_equals_the_reference(implementation, candidates, *objects(2, 5), *THRESHOLDS, True)
    strided = candidates.transpose(1, 2).contiguous().transpose(1, 2)
    assert_equals_the_reference(implementation, strided, *objects(2, 5), *THRESHOLDS, True)


def test_double_precision_is_kept():
    candidates, boxes, real, crowd = one_image([[0, 0, 3, 1]], [[0, 0, 1, 1]])
    third = {"positive_iou": 1 / 3, "negative_iou": 1 / 3}
    nudged = boxes.double()
    nudged[..., 2] -= 1e-12
    assert match(candidates.double(), boxes, real, crowd, **third)[1].item() == POSITIVE
    assert match(candidates, nudged, real, crowd, **third)[1].item() == NEGATIVE
    assert match(candidates.bfloat16(), boxes.bfloat16(), real, crowd, **third)[1].item() == POSITIVE


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(cpu, "WORTH_A_THREAD", 1)
    assert_equals_the_reference(cpu.match, anchors().expand(2, -1, -1), *objects(2, 9), *THRESHOLDS, True)


def test_no_images_give_no_rows():
    empty = (anchors().expand(3, -1, -1)[:0], *(part[:0] for part in objects(3, 4)))
    target, label = match(*empty, positive_iou=0.7, negative_iou=0.3, keep_best=True)
    assert target.shape == label.shape == (0, 720)


def test_shapes_that_disagree_are_named():
    candidates, boxes, real, crowd = one_image([[0, 0, 4, 2]] * 3, [[0, 0, 4, 2]] * 2)
    with pytest.raises(ValueError, match=r"\(1, 3, 4\), \(1, 2, 4\), \(1, 1\), \(1, 2\)"):
        inspect.unwrap(match)(candidates, boxes, real[:, 1:], crowd, positive_iou=0.7, negative_iou=0.3)


def test_the_operator_keeps_the_rules_of_torch_library():
    given = (anchors(3, 4).repeat(2, 1, 1), *(part.nan_to_num() for part in objects(2, 5)))
    torch.library.opcheck(torch.ops.maskrcnn.match.default, (*given, 0.7, 0.3, True))


def test_it_traces_as_one_graph_and_gives_no_gradient():
    torch._dynamo.reset()
    given = (anchors().expand(2, -1, -1).clone().requires_grad_(), *objects(2, 6))
    settings = {"positive_iou": 0.7, "negative_iou": 0.3, "keep_best": True}
    traced = torch.compile(lambda *tensors: match(*tensors, **settings), fullgraph=True, backend="eager")(*given)
    torch.testing.assert_close(traced, match(*given, **settings))
    assert not traced[0].requires_grad


def test_other_devices_get_shapes_and_types():
    given = tuple(part.to("meta") for part in (anchors().repeat(2, 1, 1), *objects(2, 6)))
    with FakeTensorMode(allow_non_fake_inputs=True):
        found = reference.match(*(torch.empty_like(part, device="cpu") for part in given), *THRESHOLDS, True)
    for parts in (found, match(*given, positive_iou=0.7, negative_iou=0.3)):
        assert [(part.shape, part.dtype) for part in parts] == [((2, 720), torch.int64)] * 2
