"""What recipes on EfficientNet-Lite may and may not say."""

import pytest

from maskrcnn.recipes import read_recipe


def mistake(*words: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the test looks at the sentence)
        read_recipe("lite", words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("model.backbone.width=32", "width"),
        ("model.backbone.stride_in_1x1=true", "stride_in_1x1"),
        ("model.backbone.stem_pool=end", "stem_pool"),
    ],
)
def test_settings_of_resnets_have_no_effect_and_are_refused(word, name):
    assert mistake(word).startswith(f"model.backbone.{name}: has no effect on efficientnet_lite0, only on ResNets")


def test_pretrained_weights_want_the_pixels_they_were_trained_on():
    told = mistake("data.mean=[123.675,116.28,103.53]")
    assert told.startswith(
        "data.mean: expected data.mean=[127.0, 127.0, 127.0] data.std=[128.0, 128.0, 128.0], on which"
    )
    assert "got data.mean=[123.675, 116.28, 103.53]" in told


def test_without_pretrained_weights_any_pixels_and_bands_will_do():
    words = ["model.backbone.pretrained=", "data.mean=[0,0,0,0,0]", "data.std=[1,1,1,1,1]"]
    assert len(read_recipe("lite", words).data.mean) == 5


def test_both_sizes_are_kinds_of_backbone():
    assert read_recipe("lite", ["model.backbone.kind=efficientnet_lite2"]).model.backbone.kind == "efficientnet_lite2"
    assert "efficientnet_lite0, efficientnet_lite2" in mistake("model.backbone.kind=efficientnet_lite1")
