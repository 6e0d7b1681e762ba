"""torchvision gets the same network, pixels and targets."""

import pytest
import torch

from maskrcnn import config
from maskrcnn.bench import peer
from maskrcnn.bench.setup import trained_like
from maskrcnn.structures import ImageBatch, Targets

SMALL = config.Model(
    backbone=config.Backbone(kind="resnet18", norm="group_norm", frozen_stages=0), neck=config.Neck(channels=64)
)


@pytest.fixture
def images():
    return ImageBatch(torch.randn(2, 3, 64, 96), torch.tensor([[64.0, 80.0], [48.0, 96.0]]))


def targets():
    """A rectangle and a triangle on the first image, a crowd and an empty slot beside them; nothing on the second."""
    edges = torch.zeros(2, 7, 4)
    edges[0, :4] = torch.tensor([[2, 1, 6, 1], [6, 1, 6, 4], [6, 4, 2, 4], [2, 4, 2, 1]]).float()
    edges[0, 4:] = torch.tensor([[10, 0, 14, 0], [14, 0, 10, 4], [10, 4, 10, 0]]).float()
    return Targets(
        boxes=torch.tensor([[[2, 1, 6, 4], [10, 0, 14, 4], [0, 0, 9, 9], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 4]).float(),
        labels=torch.tensor([[3, 1, 2, 0], [0] * 4]),
        crowd=torch.tensor([[False, False, True, False], [False] * 4]),
        valid=torch.tensor([[True, True, True, False], [False] * 4]),
        edges=edges,
        first_edge=torch.tensor([[0, 4, 7, 7, 7], [0] * 5]),
    )


def test_targets_are_bitmaps_of_pixel_centres_without_crowds(images):
    first, second = peer.annotations(images, targets())
    assert first["labels"].tolist() == [3, 1]
    assert first["masks"].shape == (2, 64, 80)
    expected = torch.zeros(64, 80, dtype=torch.uint8)
    expected[1:4, 2:6] = 1
    assert torch.equal(first["masks"][0], expected)
    assert first["masks"][1, :4, 10:14].sum(dim=1).tolist() == [3, 2, 1, 0]
    assert second["boxes"].shape == (0, 4)
    assert second["masks"].shape == (0, 48, 96)


def test_pictures_lose_their_padding(images):
    assert [tuple(picture.shape) for picture in peer.image_list(images)] == [(3, 64, 80), (3, 48, 96)]


def test_without_torchvision_a_sentence_says_so(monkeypatch):
    monkeypatch.setattr(peer, "find_spec", lambda name: None)
    assert peer.lacking(torch.nn.Identity(), SMALL, config.Data(), 3) == "torchvision is not installed"


def test_a_network_that_torchvision_does_not_have_is_told():
    pytest.importorskip("torchvision")
    settings = config.Model(backbone=config.Backbone(kind="resnet18", norm="group_norm", frozen_stages=0, width=32))
    reason = peer.lacking(trained_like(settings, 3), settings, config.Data(), 3)
    assert reason.startswith("torchvision has no such network: backbone.body.conv1.weight and ")


def test_the_same_network_makes_the_same_pyramid_and_learns_from_the_same_pixels(images):
    pytest.importorskip("torchvision")
    model = trained_like(SMALL, 3).eval()
    assert peer.lacking(model, SMALL, config.Data(), 3) == ""
    theirs = peer.takes_prepared(peer.same_network(model, SMALL, config.Data(), 3), (64, 96))
    batch, _ = theirs.transform(peer.image_list(images))
    assert batch.tensors.shape == (2, 3, 64, 96)
    with torch.no_grad():
        ours = model.neck(model.backbone(batch.tensors))
        pyramid = theirs.backbone(batch.tensors).values()
    for a, b in zip(ours, pyramid, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    found = peer.annotations(images, targets())
    taken = peer.masks_learnt(theirs.train(), lambda: theirs(peer.image_list(images), found))
    assert taken >= 2  # the two annotated boxes themselves are proposals
    stages = peer.peer_stages(theirs.eval(), peer.image_list(images))
    assert list(stages) == ["backbone and FPN", "RPN", "box head", "mask head"]
