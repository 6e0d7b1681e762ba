"""Building without drawing."""

import torch

from maskrcnn import config
from maskrcnn.models.mask_rcnn import build
from maskrcnn.models.skip_init import SkipInit


def test_nothing_is_drawn_and_what_is_not_random_is_as_ever():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with SkipInit():
        model = build(small_settings(), 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    drawn = build(small_settings(), 3)
    assert not torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(model.rpn.base, drawn.rpn.base)
    assert all(torch.equal(one, other) for one, other in zip(biases(model), biases(drawn), strict=True))


def small_settings():
    return config.Model(backbone=config.Backbone(kind="resnet18", width=16), neck=config.Neck(channels=16))


def biases(model):
    return [tensor for name, tensor in model.state_dict().items() if name.endswith("bias")]
