"""The first layer of published weights, spread over other bands than red, green and blue."""

import pytest
import torch
from safetensors.torch import save_file

from maskrcnn import config
from maskrcnn.convert.backbone import load_backbone
from maskrcnn.convert.stem import spread
from maskrcnn.models.efficientnet import EfficientNet
from maskrcnn.models.resnet import ResNet

SETTINGS = {
    ResNet: config.Backbone(kind="resnet18", width=8),
    EfficientNet: config.Backbone(kind="efficientnet_lite0"),
}


@pytest.mark.parametrize("num_bands", [1, 2, 3, 4, 5, 8])
def test_an_image_of_equal_bands_gives_what_it_gave(num_bands):
    weight = torch.arange(2 * 3 * 2 * 1).reshape(2, 3, 2, 1).float()
    spread_weight = spread(weight, num_bands)
    assert spread_weight.shape == (2, num_bands, 2, 1)
    if num_bands % 3 == 0 or num_bands == 1:
        torch.testing.assert_close(spread_weight.sum(dim=1), weight.sum(dim=1))
    assert torch.equal(spread(weight, 3), weight)
    torch.testing.assert_close(spread(weight, 5)[:, 4], 0.6 * weight[:, 1])


@pytest.mark.parametrize("family", [ResNet, EfficientNet])
@pytest.mark.parametrize("num_bands", [1, 5])
def test_a_backbone_of_other_bands_is_filled(tmp_path, family, num_bands):
    torch.manual_seed(0)
    theirs, ours = family(SETTINGS[family]), family(SETTINGS[family], num_bands)
    save_file({name: x.contiguous() for name, x in theirs.state_dict().items()}, tmp_path / "a.safetensors")
    filled = config.Backbone(
        kind=SETTINGS[family].kind, width=SETTINGS[family].width, pretrained=str(tmp_path / "a.safetensors")
    )
    load_backbone(ours, filled, lambda _: None)
    first, before = (next(iter(network.parameters())) for network in (ours, theirs))
    assert torch.equal(first, spread(before, num_bands))
    for name, tensor in list(theirs.state_dict().items())[1:]:
        assert torch.equal(ours.state_dict()[name], tensor)
    if num_bands == 1:  # gray alone is seen as three equal bands were
        gray = torch.randn(1, 1, 64, 64)
        torch.testing.assert_close(ours(gray)[0], theirs(gray.expand(1, 3, 64, 64))[0], rtol=1e-3, atol=1e-4)
