"""Several views of the same images as one prediction."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn.config import RPN, Backbone, BoxHead, Data, Evaluate, MaskHead, Model, Neck
from maskrcnn.models.augmented import Augmented, Seen, merge
from maskrcnn.models.box_head import Boxes
from maskrcnn.models.mask_rcnn import build
from maskrcnn.view import View
from maskrcnn.ways import Ways

MODEL = Model(
    backbone=Backbone(kind="resnet18", norm="group_norm", pretrained="", frozen_stages=0, width=8),
    neck=Neck(channels=8),
    rpn=RPN(anchor_sizes=(8, 16, 32, 64, 128), num_test_candidates=50, num_test_proposals=20),
    box_head=BoxHead(hidden=16, score_threshold=0.0, num_detections=10),
    mask_head=MaskHead(num_convs=1, channels=8),
)
DATA = Data(short_sides=(64,), max_side=96)


def found(*boxes: tuple[float, ...]) -> Boxes:
    """(x1, y1, x2, y2, label, score) of one image; a score of 0 is a slot that is not used."""
    rows = torch.tensor(boxes)[None]
    return Boxes(rows[..., :4], rows[..., 4].long(), rows[..., 5], rows[..., 5] > 0)


def test_boxes_of_two_views_become_their_mean_by_score_and_are_less_certain_where_only_one_sees_them():
    first = found((0, 0, 10, 20, 1, 0.9), (40, 0, 60, 30, 2, 0.8), (0, 0, 0, 0, 1, 0.0))
    second = found((2, 0, 12, 20, 1, 0.3), (40, 0, 60, 30, 1, 0.5), (80, 0, 90, 30, 2, 0.6))
    merged = merge([first, second], threshold=0.5, num_keep=5)
    assert merged.valid.tolist() == [[True, True, True, True, False]]
    assert merged.labels[0, :4].tolist() == [1, 2, 2, 1]
    assert merged.scores[0, :4].tolist() == pytest.approx([0.6, 0.4, 0.3, 0.25])
    assert merged.boxes[0, 0].tolist() == pytest.approx([0.5, 0, 10.5, 20])
    expected = torch.tensor([[40.0, 0, 60, 30], [80, 0, 90, 30], [40, 0, 60, 30]])
    torch.testing.assert_close(merged.boxes[0, 1:4], expected)


def test_an_overlapping_neighbour_goes_to_the_box_that_it_overlaps_most():
    first = found((0, 0, 10, 10, 1, 0.9), (0, 8, 10, 18, 1, 0.8))
    second = found((0, 9, 10, 19, 1, 0.7), (0, 0, 10, 10, 1, 0.6))
    merged = merge([first, second], threshold=0.5, num_keep=2)
    assert merged.boxes[0, :, 1].tolist() == pytest.approx([0, (8 * 0.8 + 9 * 0.7) / 1.5])


def test_a_view_counts_once_however_many_of_its_boxes_overlap():
    first = found((0, 0, 10, 10, 1, 0.9), (0, 0, 10, 9, 1, 0.8))
    merged = merge([first, found((0, 0, 10, 10, 1, 0.5), (0, 0, 0, 0, 1, 0.0))], threshold=0.5, num_keep=1)
    assert merged.scores.item() == pytest.approx(0.7)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build(MODEL, 2).eval()


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 40, 60, 3), generator=generator, dtype=torch.uint8), torch.tensor([[40, 60]] * 2)


def prepared(evaluate: Evaluate):
    images, sizes = pictures()
    view = View.whole(sizes, torch.tensor([[64, 96]] * 2))
    ways = Ways.of(evaluate, DATA)
    return ways, ways.prepare(images, sizes, sizes, view, (64, 96), torch.device("cpu")), view


def test_the_usual_way_is_the_network_as_it_is(model):
    ways, batch, view = prepared(Evaluate())
    assert ways.are_usual
    assert ways.network(model) is model
    assert batch.pixels.shape == (2, 3, 64, 96)
    assert ways.frame(view, view.sizes) is view


@torch.inference_mode()
def test_two_equal_views_find_what_one_finds_in_the_frame_of_the_originals(model):
    ways, (seen, mirrored), _ = prepared(Evaluate(flip=True))
    assert not ways.are_usual
    once = model(seen.images)
    twice = Augmented(model)([seen, seen])
    number = int(once.valid[0].sum())
    order = once.scores[0, :number].argsort(descending=True, stable=True)
    torch.testing.assert_close(twice.scores[0, :number], once.scores[0, order])
    torch.testing.assert_close(twice.boxes[0, :number], once.boxes[0, order] / 1.6, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(twice.masks[0, :number], once.masks[0, order], rtol=1e-3, atol=1e-3)
    assert mirrored.mirrored.all()


@torch.inference_mode()
def test_a_mirrored_view_of_a_mirrored_picture_gives_the_same_masks_in_place(model):
    """Views see the same pixels, so the frame alone is what the maps have to undo."""
    _, (seen, mirrored), _ = prepared(Evaluate(flip=True))
    torch.testing.assert_close(mirrored.images.pixels, seen.images.pixels.flip(3), rtol=1e-4, atol=1e-4)
    plain = Augmented(model)([seen])
    turned = Augmented(model)([Seen(seen.images, mirrored.to_view, mirrored.to_original, mirrored.mirrored)])
    left, top, right, bottom = plain.boxes.unbind(2)
    expected = torch.stack([60 - right, top, 60 - left, bottom], 2)
    torch.testing.assert_close(turned.boxes, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(turned.masks, plain.masks.flip(3), rtol=1e-3, atol=1e-3)


def test_padded_sizes_of_other_scales_follow_from_the_usual_one_and_hold_it():
    _, seen, _ = prepared(Evaluate(scales=(0.75, 1.0, 1.3)))
    assert [tuple(one.images.pixels.shape[2:]) for one in seen] == [(64, 96), (64, 96), (96, 128)]
    assert [one.images.sizes[0].tolist() for one in seen] == [[48, 72], [64, 96], [83, 125]]


def test_all_ways_are_one_graph_whose_shapes_depend_on_no_value(model):
    _, seen, _ = prepared(Evaluate(scales=(0.5, 1.0), flip=True))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = torch.utils._pytree.tree_map(mode.from_tensor, seen)
        detections = Augmented(model)(fake)
    assert detections.boxes.shape == (2, 10, 4)
    assert detections.masks.shape == (2, 10, 28, 28)


def test_something_else_than_a_network_is_refused():
    with pytest.raises(TypeError, match="expected a MaskRCNN for several ways to look, received Linear"):
        Ways.of(Evaluate(flip=True), DATA).network(torch.nn.Linear(1, 1))
