import pytest
import torch
from torch.nn.functional import conv2d

from maskrcnn.config import Augment
from maskrcnn.data.augment.levels import Pieces, resolve
from maskrcnn.data.augment.pixels import (
    Normalising,
    about_gray,
    blur,
    distort,
    drawn,
    mean_levels,
    normals,
    recolour,
    spread,
    where_shown,
)
from maskrcnn.structures import ImageBatch
from maskrcnn.view import View

BY = Normalising(torch.tensor([120.0, 110.0, 100.0]), torch.tensor([50.0, 60.0, 70.0]))
KEYS = torch.arange(40) * 977
ALL = Pieces(brightness=0.4, contrast=0.5, saturation=0.7, hue=0.05, blur=1.0, noise=7.0)


def pixels_of(levels, by=BY):
    """Levels (B, H, W, C) as a network sees them."""
    return ((levels.float() - by.mean) / by.std).permute(0, 3, 1, 2)


def levels_of(pixels, by=BY):
    return pixels.permute(0, 2, 3, 1) * by.std + by.mean


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))


def everywhere(pixels):
    return torch.ones_like(pixels[:, :1], dtype=torch.bool)


def whole(pixels):
    return ImageBatch(pixels, torch.tensor([pixels.shape[2:]] * len(pixels)).float())


def sample(count=8, height=20, width=28, bands=3):
    """Images of several sizes, surrounded by black; where they are shown; their keys."""
    by = Normalising(torch.arange(bands) + 100.0, torch.arange(bands) + 50.0)
    sizes = torch.tensor([[height - number % 5, width - number % 7] for number in range(count)])
    view = View.whole(sizes, sizes)
    shown = where_shown(view, sizes, (height, width))
    levels = noise(count, height, width, bands) * shown.permute(0, 2, 3, 1)
    pixels = pixels_of(levels, by).contiguous(memory_format=torch.channels_last)
    return ImageBatch(pixels, sizes.float()), shown, KEYS[:count], by


def recoloured(levels, gain=1.0, offset=0.0, mixing=None):
    """The levels that one pixel of red, green and blue becomes."""
    gains, offsets = torch.tensor([gain]), torch.full((1, 3), offset)
    found = recolour(pixels_of(torch.tensor([[[levels]]])), gains, offsets, mixing, BY)
    return [round(level, 2) for level in levels_of(found).flatten().tolist()]


def test_levels_are_multiplied_and_moved():
    assert recoloured([10.0, 20.0, 200.0], gain=1.5, offset=-8.0) == [7, 22, 292]
    same = torch.eye(3)[None]
    assert recoloured([10.0, 20.0, 200.0], gain=1.5, offset=-8.0, mixing=same) == [7, 22, 292]


def matrix(saturation, hue):
    return about_gray(torch.tensor([saturation]), torch.tensor([hue]))


def test_a_third_of_a_turn_makes_red_green_and_green_blue():
    assert recoloured([200.0, 30.0, 10.0], mixing=matrix(1.0, 1 / 3)) == [10, 200, 30]
    assert recoloured([200.0, 30.0, 10.0], mixing=matrix(1.0, -1 / 3)) == [30, 10, 200]


def test_saturation_stretches_colours_away_from_gray():
    assert recoloured([200.0, 30.0, 10.0], mixing=matrix(0.0, 0.2)) == [80, 80, 80]
    assert recoloured([200.0, 30.0, 10.0], mixing=matrix(0.5, 0.0)) == [140, 55, 45]
    assert recoloured([90.0, 90.0, 90.0], mixing=matrix(1.7, 0.4)) == [90, 90, 90]


def test_no_change_of_colour_leaves_every_bit():
    pixels = pixels_of(noise(1, 5, 7, 3))
    for mixing in (None, matrix(1.0, 0.0)):
        assert torch.equal(recolour(pixels, torch.ones(1), torch.zeros(1, 3), mixing, BY), pixels)


def test_contrast_changes_about_the_mean_of_each_band():
    """Two levels, 40 and 80, whose mean is 60: with a factor f they become 60 - 20 f and 60 + 20 f."""
    levels = torch.tensor([40, 80]).repeat_interleave(4).repeat(len(KEYS), 8, 1)[..., None].expand(-1, -1, -1, 3)
    pixels = pixels_of(levels)
    found = distort(
        ImageBatch(pixels, torch.tensor([[8.0, 8.0]] * len(KEYS))), everywhere(pixels), KEYS, Pieces(contrast=0.5), BY
    )
    low, high = levels_of(found.pixels)[:, 0, [0, 7], 1].unbind(1)
    torch.testing.assert_close(low + high, torch.full_like(low, 120), atol=1e-3, rtol=0)
    factors = (high - low) / 40
    assert 0.5 <= factors.min() < 0.7
    assert 1.3 < factors.max() <= 1.5
    assert 10 < ((factors - 1).abs() < 1e-6).sum() < 30, "one half stays"


def test_means_are_those_of_what_is_shown_in_whole_levels():
    levels = torch.full((1, 9, 9, 3), 200)
    levels[0, :, :5] = torch.tensor([10, 21, 32])
    shown = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    shown[:, :, :, :5] = True
    assert mean_levels(pixels_of(levels), shown, BY).tolist() == [[10, 21, 32]]


def test_one_half_of_the_images_changes_evenly_up_to_the_amplitude():
    keys = torch.arange(20000)
    for amounts, low in ((drawn(keys, 15), 0.0), (spread(keys, 15), -1.0)):
        changed = amounts[amounts != 0]
        assert abs(len(changed) / len(keys) - 0.5) < 0.01
        assert low <= changed.min() < low + 0.001
        assert 0.999 < changed.max() < 1
        assert abs(changed.mean() - (low + 1) / 2) < 0.01


def test_a_blurred_point_is_a_gaussian():
    pixels = torch.zeros(2, 1, 9, 11)
    pixels[:, :, 4, 5] = 1
    found = blur(pixels, torch.tensor([0.0, 1.0]), 1.0, everywhere(pixels))
    assert torch.equal(found[0], pixels[0])
    weights = torch.exp(-torch.tensor([9.0, 4, 1, 0, 1, 4, 9]) / 2)
    weights = weights / weights.sum()
    expected = conv2d(pixels[1:], weights.view(1, 1, 7, 1), padding=(3, 0))
    expected = conv2d(expected, weights.view(1, 1, 1, 7), padding=(0, 3))
    torch.testing.assert_close(found[1:, :, 3:6, 3:8], expected[:, :, 3:6, 3:8])


def test_nothing_is_blurred_into_an_image_from_beyond_it():
    pixels = torch.full((1, 3, 12, 16), -2.0)
    shown = torch.zeros(1, 1, 12, 16, dtype=torch.bool)
    shown[:, :, 2:9, 3:10] = True
    pixels = torch.where(shown, 1.5, pixels)
    found = blur(pixels, torch.tensor([0.9]), 1.0, shown)
    torch.testing.assert_close(found[:, :, 2:9, 3:10], pixels[:, :, 2:9, 3:10])


def test_images_smaller_than_the_blur_are_averaged_as_far_as_they_reach():
    pixels = torch.tensor([[[[0.0, 3.0]]]])
    found = blur(pixels, torch.tensor([1000.0]), 1000.0, everywhere(pixels))
    torch.testing.assert_close(found, torch.full_like(pixels, 1.5))


def test_noise_is_normal_and_unlike_in_rows_bands_and_images():
    found = normals(KEYS[:6], torch.zeros(6, 3, 50, 400))
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1) < 0.02
    kurtosis = (found**4).mean() / found.var() ** 2
    assert abs(kurtosis - 3) < 0.1
    for one, other in ((found[0], found[1]), (found[:, 0], found[:, 1]), (found[:, :, 0], found[:, :, 1])):
        assert abs((one * other).mean()) < 0.05
    assert torch.equal(found[2:4], normals(KEYS[2:4], torch.zeros(2, 3, 50, 400)))


@pytest.mark.parametrize(("bands", "width"), [(256, 1024), (200, 1344)])
def test_noise_of_rows_as_long_as_its_table_is_unlike_too(bands, width):
    """The first image and band have the noise of the second as little as neighbouring rows have that of each other."""
    found = normals(KEYS[:2], torch.zeros(1, bands, 3, width).expand(2, -1, -1, -1))
    assert found.shape == (2, bands, 3, width)
    assert abs(found.mean()) < 0.02
    for one, other in ((found[0], found[1]), (found[:, :, 0], found[:, :, 1]), (found[:, 0], found[:, bands // 2])):
        assert abs((one * other).mean()) < 0.05


def test_the_amplitude_of_noise_is_in_levels():
    pixels = pixels_of(torch.full((40, 40, 60, 3), 128))
    found = distort(
        ImageBatch(pixels, torch.tensor([[40.0, 60.0]] * 40)), everywhere(pixels), KEYS, Pieces(noise=7.0), BY
    )
    spreads = levels_of(found.pixels).std((1, 2))
    assert 5.5 < spreads.max() < 7.3
    torch.testing.assert_close(spreads[:, 0], spreads[:, 1], rtol=0.1, atol=0.01)


def test_where_an_image_is_shown():
    originals = torch.tensor([[10, 20]] * 4)
    windows = torch.tensor([[0.0, 0, 20, 10], [-10, 0, 30, 10], [0, -5, 20, 15], [-10, 0, 30, 10]])
    sizes = torch.tensor([[5, 10], [5, 20], [10, 10], [20, 5]])
    view = View(windows, sizes, torch.tensor([False, True, False, False]), torch.tensor([0, 0, 0, 1]))
    shown = where_shown(view, originals, (20, 20))
    assert [[*part[0].nonzero().amin(0).tolist(), *part[0].nonzero().amax(0).tolist()] for part in shown] == [
        [0, 0, 4, 9], [0, 5, 4, 14], [2, 0, 6, 9], [5, 0, 14, 4]
    ]  # fmt: skip
    assert shown.sum((1, 2, 3)).tolist() == [50] * 4


@pytest.mark.parametrize("piece", ["brightness", "contrast", "saturation", "hue", "blur", "noise"])
def test_each_piece_changes_images_and_never_their_padding(piece):
    images, shown, keys, by = sample()
    found = distort(images, shown, keys, Pieces()._replace(**{piece: getattr(ALL, piece)}), by)
    outside = ~shown.expand_as(found.pixels)
    assert torch.equal(found.pixels[outside], images.pixels[outside])
    changed = (found.pixels != images.pixels).flatten(1).any(1)
    assert 0 < changed.sum() < 8
    assert torch.equal(found.sizes, images.sizes)


def test_levels_stay_between_0_and_255():
    images, shown, keys, by = sample()
    levels = levels_of(distort(images, shown, keys, ALL, by).pixels, by)
    assert levels.min() > -1e-3
    assert levels.max() < 255.001


def test_an_image_changes_alike_in_any_batch_and_again():
    images, shown, keys, by = sample()
    whole = distort(images, shown, keys, ALL, by).pixels
    assert torch.equal(whole, distort(images, shown, keys, ALL, by).pixels)
    for part in (slice(0, 4), slice(4, 8), slice(5, 6)):
        alone = ImageBatch(images.pixels[part], images.sizes[part])
        assert torch.equal(distort(alone, shown[part], keys[part], ALL, by).pixels, whole[part])


def test_memory_stays_channels_last_and_what_was_given_stays_as_it_was():
    images, shown, keys, by = sample()
    before = images.pixels.clone()
    found = distort(images, shown, keys, ALL, by)
    assert found.pixels.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images.pixels, before)


def test_without_pieces_images_are_the_same_object():
    images, shown, keys, by = sample()
    assert distort(images, shown, keys, Pieces(), by) is images


def test_images_of_five_bands_change_in_brightness_contrast_blur_and_noise():
    images, shown, keys, by = sample(bands=5)
    pieces = resolve(Augment(strength="strong"), num_bands=5)
    assert (pieces.saturation, pieces.hue, pieces.jpeg) == (0, 0, 100)
    found = distort(images, shown, keys, pieces, by)
    assert (found.pixels != images.pixels).any()


def test_nothing_waits_for_a_device(tape):
    images, shown, keys, by = sample()
    found, replay = tape.record(lambda: distort(images, shown, keys, ALL, by).pixels)
    replay()
    assert torch.equal(found, distort(images, shown, keys, ALL, by).pixels)
