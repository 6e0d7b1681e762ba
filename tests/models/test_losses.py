import math

import pytest
import torch

from maskrcnn.models import losses


def test_the_mean_counts_only_what_counts_and_every_image_the_same():
    values = torch.tensor([[1.0, 3.0, float("nan")], [10.0, 99.0, 99.0]])
    counts = torch.tensor([[True, True, False], [True, False, False]])
    assert losses.mean_over_images(values, counts).item() == (2.0 + 10.0) / 2


def test_an_image_without_samples_adds_nothing():
    assert losses.mean_over_images(torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.bool)).item() == 0.0


def test_objectness_at_zero_logits_is_log_two():
    flags = torch.ones(2, 3, dtype=torch.bool)
    assert losses.objectness_loss(torch.zeros(2, 3), flags, flags).item() == pytest.approx(math.log(2))


def test_class_loss_of_uniform_logits_is_the_log_of_the_number_of_classes():
    labels = torch.tensor([[0, 3], [1, 2]])
    loss = losses.class_loss(torch.zeros(2, 2, 4), labels, torch.ones(2, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(4))


def test_box_loss_divides_the_positives_by_all_samples():
    deltas, goal = torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.5)
    positive, valid = torch.tensor([[True, False, False, False]]), torch.tensor([[True, True, True, False]])
    assert losses.box_loss(deltas, goal, positive, valid).item() == pytest.approx(4 * 0.5 / 3)


def test_mask_loss_ignores_boxes_without_weight():
    logits, goal = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    logits[2] = 1e4
    assert losses.mask_loss(logits, 1 - goal, torch.tensor([0.5, 0.5, 0.0])).item() == pytest.approx(math.log(2))


def test_bf16_logits_are_computed_in_float32():
    flags = torch.ones(1, 1, dtype=torch.bool)
    assert losses.objectness_loss(torch.zeros(1, 1, dtype=torch.bfloat16), flags, flags).dtype == torch.float32


def test_smooth_l1_is_quadratic_below_beta_and_l1_less_half_of_it_above():
    deltas, goal = torch.tensor([[[0.25, 2.0, 0.0, 0.0]]]), torch.zeros(1, 1, 4)
    one = torch.ones(1, 1, dtype=torch.bool)
    assert losses.box_loss(deltas, goal, one, one, beta=0.5).item() == pytest.approx(0.25**2 / 2 / 0.5 + 2.0 - 0.25)
