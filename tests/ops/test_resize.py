import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from maskrcnn.ops.resize import reference, resize

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NOTHING, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CASES = [((48, 64), (80, 107)), ((64, 40), (32, 20)), ((37, 91), (61, 29)), ((20, 30), (20, 30)), ((1, 7), (9, 63))]
BUCKET = 96, 128


def as_operator(images, raw_sizes, sizes, flip, bucket=BUCKET, mean=NOTHING, std=ONE, antialias=True, whole=False):
    settings = {"mean": mean, "std": std, "antialias": antialias, "whole_levels": whole}
    return resize(images, raw_sizes, sizes, flip, bucket=bucket, **settings)


def as_reference(images, raw_sizes, sizes, flip, bucket=BUCKET, mean=NOTHING, std=ONE, antialias=True, whole=False):
    return reference.resize(images, raw_sizes, sizes, flip, bucket, mean, std, antialias, whole)


both = pytest.mark.parametrize("implementation", [as_operator, as_reference])


def noise(*sizes):
    """Pictures, and a batch of them with noise around each, so that reading beyond it shows."""
    generator = torch.Generator().manual_seed(0)
    most = torch.tensor(sizes).amax(dim=0)
    images = torch.randint(0, 256, (len(sizes), *most, 3), generator=generator, dtype=torch.uint8)
    return [image[:height, :width] for image, (height, width) in zip(images, sizes, strict=True)], images


def batch(flip):
    pictures, images = noise(*(raw for raw, _ in CASES))
    raw_sizes, sizes = (torch.tensor(column) for column in zip(*CASES, strict=True))
    return pictures, (images, raw_sizes, sizes, torch.full((len(CASES),), flip))


@both
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("flip", [False, True])
def test_each_picture_equals_interpolation_of_it_alone(implementation, flip, antialias):
    pictures, arguments = batch(flip)
    found = implementation(*arguments, antialias=antialias)
    for pixels, picture, (_, (height, width)) in zip(found, pictures, CASES, strict=True):
        alone = picture.permute(2, 0, 1)[None].double()
        expected = interpolate(alone, (height, width), mode="bilinear", antialias=antialias)[0]
        if flip:
            expected = expected.flip(2)
        assert (pixels[:, :height, :width] - expected).abs().max() <= 0.02
        assert torch.count_nonzero(pixels[:, height:]) == 0
        assert torch.count_nonzero(pixels[:, :, width:]) == 0


@both
@pytest.mark.parametrize("flip", [False, True])
def test_whole_levels_are_those_of_pillow(implementation, flip):
    pictures, arguments = batch(flip)
    found = implementation(*arguments, mean=MEAN, std=STD, whole=True)
    for pixels, picture, (_, (height, width)) in zip(found, pictures, CASES, strict=True):
        resized = Image.fromarray(picture.numpy()).resize((width, height), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
        expected = expected.flip(2) if flip else expected
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        levels = pixels[:, :height, :width] * std + mean
        assert (levels - levels.round()).abs().max() < 1e-3
        assert (levels - expected).abs().max() < 1.001  # Pillow's weights have 22 bits
        assert ((levels - expected).abs() < 0.5).float().mean() > 0.99
        assert torch.count_nonzero(pixels[:, height:]) == torch.count_nonzero(pixels[:, :, width:]) == 0


@both
def test_normalised_pixels_have_zero_padding_and_channels_last(implementation):
    gray = torch.full((2, 10, 20, 3), 128, dtype=torch.uint8)
    sizes, never = torch.tensor([[20, 40], [30, 15]]), torch.zeros(2, dtype=torch.bool)
    pixels = implementation(gray, torch.tensor([[10, 20]] * 2), sizes, never, (32, 64), MEAN, STD)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 32, 64), torch.float32)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    expected = (128 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(pixels[0, :, 19, 39], expected, atol=1e-5)
    np.testing.assert_allclose(pixels[1, :, 29, 14], expected, atol=1e-5)
    assert torch.count_nonzero(pixels[0, :, 20:]) == torch.count_nonzero(pixels[1, :, :, 15:]) == 0


@pytest.mark.parametrize("antialias", [True, False])
def test_kernel_and_reference_agree_on_a_photo(antialias):
    row, column = np.mgrid[:100, :150]
    photo = np.stack([row + column, 255 - row, 128 + 100 * np.sin(column / 9)], axis=-1).astype(np.uint8)
    arguments = (
        torch.from_numpy(photo)[None].expand(3, -1, -1, -1),
        torch.tensor([[100, 150], [100, 150], [60, 70]]),
        torch.tensor([[167, 250], [41, 99], [100, 33]]),
        torch.tensor([False, True, True]),
    )
    settings = {"bucket": (192, 256), "mean": MEAN, "std": STD, "antialias": antialias}
    torch.testing.assert_close(
        as_operator(*arguments, **settings), as_reference(*arguments, **settings), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("whole", [False, True])
def test_threads_change_no_bit(whole, monkeypatch):
    monkeypatch.setattr("maskrcnn.ops.resize.cpu.ROWS", 7)
    _, arguments = batch(True)
    alone = as_operator(*arguments, mean=MEAN, std=STD, whole=whole)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert torch.equal(as_operator(*arguments, mean=MEAN, std=STD, whole=whole), alone)


def test_channels_columns_and_strides_are_not_mixed_up():
    picture = torch.zeros(1, 4, 2, 3, dtype=torch.uint8).transpose(1, 2)  # 2 rows, 4 columns
    picture[0, 0, 3, 0] = 200  # red in the top right corner
    whole = torch.tensor([[2, 4]])
    assert as_operator(picture, whole, whole, torch.tensor([False]), (32, 32)).nonzero().tolist() == [[0, 0, 0, 3]]
    assert as_operator(picture, whole, whole, torch.tensor([True]), (32, 32)).nonzero().tolist() == [[0, 0, 0, 0]]


def test_no_pictures_give_no_pixels():
    none = torch.zeros(0, 5, 6, 3, dtype=torch.uint8), torch.zeros(0, 2, dtype=torch.long)
    assert as_operator(*none, none[1], torch.zeros(0, dtype=torch.bool)).shape == (0, 3, *BUCKET)


def test_the_operator_keeps_torchs_contract():
    _, arguments = batch(True)
    torch.library.opcheck(torch.ops.maskrcnn.resize.default, (*arguments, *BUCKET, [*MEAN], [*STD], True, False))


@pytest.mark.parametrize("implementation", [as_operator, inspect.unwrap(as_reference)])
def test_it_traces_as_one_graph(implementation):
    _, arguments = batch(True)
    compiled = torch.compile(implementation, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*arguments), implementation(*arguments))
