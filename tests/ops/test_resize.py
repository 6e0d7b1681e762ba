import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from maskrcnn.ops.resize import angles, reference, resize
from maskrcnn.view import View, compose, inverse, matrix, move_points

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NOTHING, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CASES = [((48, 64), (80, 107)), ((64, 40), (32, 20)), ((37, 91), (61, 29)), ((20, 30), (20, 30)), ((1, 7), (9, 63))]
BUCKET = 96, 128


def as_operator(images, raw_sizes, view, bucket=BUCKET, mean=NOTHING, std=ONE, antialias=True, area=False, **rest):
    settings = {"mean": mean, "std": std, "antialias": antialias, "area": area, **rest}
    return resize(images, raw_sizes, view, bucket=bucket, **settings)


def as_reference(images, raw_sizes, view, bucket=BUCKET, mean=NOTHING, std=ONE, antialias=True, area=False, **rest):
    settings = {"whole_levels": False, "fixed_point": False, "black_padding": False, **rest}
    return reference.resize(images, raw_sizes, view, bucket, mean, std, antialias, area, **settings)


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
    return pictures, (images, raw_sizes, View.whole(raw_sizes, sizes, torch.full((len(CASES),), flip)))


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
    found = implementation(*arguments, mean=MEAN, std=STD, whole_levels=True)
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
    sizes, raw = torch.tensor([[20, 40], [30, 15]]), torch.tensor([[10, 20]] * 2)
    pixels = implementation(gray, raw, View.whole(raw, sizes), (32, 64), MEAN, STD)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 32, 64), torch.float32)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    expected = (128 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(pixels[0, :, 19, 39], expected, atol=1e-5)
    np.testing.assert_allclose(pixels[1, :, 29, 14], expected, atol=1e-5)
    assert torch.count_nonzero(pixels[0, :, 20:]) == torch.count_nonzero(pixels[1, :, :, 15:]) == 0


@both
@pytest.mark.parametrize("whole", [False, True])
def test_black_padding_is_what_level_0_becomes(implementation, whole):
    gray = torch.full((2, 2, 4, 3), 200, dtype=torch.uint8)
    raw, sizes = torch.tensor([[2, 4], [1, 1]]), torch.tensor([[3, 5], [1, 2]])
    windows = torch.tensor([[0.0, 0.0, 4.0, 2.0], [-1.0, 0.0, 1.0, 1.0]])  # half of the second lies beyond the picture
    view = View(windows, sizes, torch.tensor([True, False]))
    mean, std = (100.0, 50.0, 20.0), (50.0, 25.0, 10.0)
    pixels = implementation(gray, raw, view, (4, 6), mean, std, whole_levels=whole, black_padding=True)
    expected = torch.full((2, 4, 6), -2.0)
    expected[0, :3, :5] = 2.0
    expected[1, 0, 1] = 2.0
    torch.testing.assert_close(pixels[:, 0], expected)
    assert pixels[0, :, 3, 5].tolist() == pixels[1, :, 0, 0].tolist() == [-2.0, -2.0, -2.0]
    assert pixels.is_contiguous(memory_format=torch.channels_last)


@both
def test_areas_are_means_where_a_picture_shrinks_by_whole_factors(implementation):
    (picture,), images = noise((12, 20))
    raw, sizes = torch.tensor([[12, 20]]), torch.tensor([[4, 10]])
    found = implementation(images, raw, View.whole(raw, sizes), (4, 10), NOTHING, ONE, area=True)[0]
    expected = torch.nn.functional.adaptive_avg_pool2d(picture.permute(2, 0, 1).float(), (4, 10))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def in_integers(picture, height, width):
    """What OpenCV makes of a picture when it enlarges it: worked out in integers, with shifts."""

    def taps(num_in, num_out):
        centre = (np.arange(num_out) + 0.5) * num_in / num_out - 0.5
        first = np.floor(centre).astype(int)
        second = np.where((first < 0) | (first == num_in - 1), 0, np.rint((centre - first) * 2048)).astype(int)
        return first.clip(0), (first + 1).clip(max=num_in - 1), 2048 - second, second

    left, right, of_left, of_right = taps(picture.shape[1], width)
    wide = (picture[:, left] * of_left[:, None] + picture[:, right] * of_right[:, None]) >> 4
    upper, lower, *weights = taps(picture.shape[0], height)
    of_upper, of_lower = (column[:, None, None] for column in weights)
    return ((wide[upper] * of_upper >> 16) + (wide[lower] * of_lower >> 16) + 2) >> 2


@both
@pytest.mark.parametrize("mirrored", [False, True])
def test_fixed_point_is_calculated_in_integers_where_a_picture_grows(implementation, mirrored):
    (picture,), images = noise((24, 40))
    raw, sizes = torch.tensor([[24, 40]]), torch.tensor([[80, 107]])
    view = View.whole(raw, sizes, torch.tensor([mirrored]))
    found = implementation(images, raw, view, BUCKET, NOTHING, ONE, area=True, fixed_point=True)[0]
    expected = torch.from_numpy(in_integers(picture.numpy().astype(int), 80, 107)).permute(2, 0, 1).float()
    expected = expected.flip(2) if mirrored else expected
    assert (found[:, :80, :107] == expected).float().mean() > 0.999
    assert (found[:, :80, :107] - expected).abs().max() <= 1
    assert torch.count_nonzero(found[:, 80:]) == torch.count_nonzero(found[:, :, 107:]) == 0


@both
def test_fixed_point_of_two_pixels_is_cut_to_quarters_before_it_is_rounded(implementation):
    columns = torch.tensor([101, 0], dtype=torch.uint8)[None, :, None].expand(2, 2, 3)  # two equal rows become four
    raw, sizes = torch.tensor([[2, 2]]), torch.tensor([[4, 4]])
    settings = {"fixed_point": True, "black_padding": False}
    found = implementation(columns[None], raw, View.whole(raw, sizes), (4, 4), NOTHING, ONE, **settings)[0, 0]
    # Exactly 101, 75.75, 25.25, 0. In the inner rows 75.75 is 56.75 + 18.75 (of 56.8125 + 18.9375), rounded 76, and
    # 25.25 is 18.75 + 6.25 (of 18.9375 + 6.3125), which is 25; 101 is 75.75 + 25.25.
    assert found.tolist() == [[101, 76, 25, 0]] * 4


@both
def test_fixed_point_rounds_averages_once(implementation):
    picture = torch.tensor([10, 11, 12, 20], dtype=torch.uint8)[:, None, None].expand(4, 4, 3)
    raw, sizes = torch.tensor([[4, 4]]), torch.tensor([[2, 2]])
    settings = {"area": True, "fixed_point": True}
    found = implementation(picture[None], raw, View.whole(raw, sizes), (2, 2), NOTHING, ONE, **settings)[0, 0]
    assert found.tolist() == [[11, 11], [16, 16]]  # 10.5 rounds up


@both
def test_areas_count_the_parts_of_pixels_that_a_sample_covers(implementation):
    levels = torch.tensor([10, 20, 60, 100, 200], dtype=torch.uint8)  # 5 pixels become 2: each covers 2.5
    picture = levels[:, None, None].expand(1, 5, 3, 3)
    raw, sizes = torch.tensor([[5, 3]]), torch.tensor([[2, 6]])
    pixels = implementation(picture, raw, View.whole(raw, sizes), (2, 6), NOTHING, ONE, area=True)[0, 0]
    down = [(10 + 20 + 30) / 2.5, (30 + 100 + 200) / 2.5]
    torch.testing.assert_close(pixels, torch.tensor(down)[:, None].expand(2, 6), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("antialias", "area"), [(True, False), (True, True), (False, False)])
def test_kernel_and_reference_agree_on_a_photo(antialias, area):
    row, column = np.mgrid[:100, :150]
    photo = np.stack([row + column, 255 - row, 128 + 100 * np.sin(column / 9)], axis=-1).astype(np.uint8)
    raw, sizes = torch.tensor([[100, 150], [100, 150], [60, 70]]), torch.tensor([[167, 250], [41, 99], [100, 33]])
    view = View.whole(raw, sizes, torch.tensor([False, True, True]))
    arguments = torch.from_numpy(photo)[None].expand(3, -1, -1, -1), raw, view
    settings = {"bucket": (192, 256), "mean": MEAN, "std": STD, "antialias": antialias, "area": area}
    torch.testing.assert_close(
        as_operator(*arguments, **settings), as_reference(*arguments, **settings), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("whole", [False, True])
def test_threads_change_no_bit(whole, monkeypatch):
    monkeypatch.setattr("maskrcnn.ops.resize.cpu.ROWS", 7)
    _, arguments = batch(True)
    alone = as_operator(*arguments, mean=MEAN, std=STD, whole_levels=whole)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert torch.equal(as_operator(*arguments, mean=MEAN, std=STD, whole_levels=whole), alone)


def test_channels_columns_and_strides_are_not_mixed_up():
    picture = torch.zeros(1, 4, 2, 3, dtype=torch.uint8).transpose(1, 2)  # 2 rows, 4 columns
    picture[0, 0, 3, 0] = 200  # red in the top right corner
    size = torch.tensor([[2, 4]])
    for mirrored, column in ((False, 3), (True, 0)):
        view = View.whole(size, size, torch.tensor([mirrored]))
        assert as_operator(picture, size, view, (32, 32)).nonzero().tolist() == [[0, 0, 0, column]]


def one_view(window, size, mirrored=False, turns=0):
    return View(torch.tensor([window]), torch.tensor([size]), torch.tensor([mirrored]), torch.tensor([turns]))


def seen(implementation, picture, window, size, *, mirrored=False, turns=0, bucket=BUCKET, **settings):
    """The pixels of one view of a picture, (height, width, bands), without what pads them."""
    height, width, bands = picture.shape
    around = torch.full((1, height + 3, width + 2, bands), 255, dtype=torch.uint8)
    around[0, :height, :width] = picture
    settings = {"mean": (0.0,) * bands, "std": (1.0,) * bands} | settings
    view = one_view(window, size, mirrored, turns)
    pixels = implementation(around, torch.tensor([[height, width]]), view, bucket, **settings)[0].permute(1, 2, 0)
    assert torch.count_nonzero(pixels[size[0] :]) == torch.count_nonzero(pixels[:, size[1] :]) == 0
    return pixels[: size[0], : size[1]]


def crop(picture, window):
    left, top, right, bottom = map(int, window)
    return picture[top:bottom, left:right]


WINDOW = [7.0, 4.0, 37.0, 24.0]  # 30 x 20 of 50 x 40


@both
def test_a_window_at_its_own_scale_is_the_crop(implementation):
    [picture], _ = noise((40, 50))
    assert torch.equal(seen(implementation, picture, WINDOW, [20, 30]), crop(picture, WINDOW).float())


@both
@pytest.mark.parametrize(("size", "antialias"), [([45, 61], True), ([13, 11], True), ([13, 11], False)])
def test_a_window_is_resized_as_the_cropped_picture_but_for_its_border(implementation, size, antialias):
    [picture], _ = noise((40, 50))
    whole = [0.0, 0.0, 30.0, 20.0]
    found = seen(implementation, picture, WINDOW, size, antialias=antialias)
    cropped = seen(implementation, crop(picture, WINDOW), whole, size, antialias=antialias)
    reach = [max(after / before, 1.0) for before, after in zip((20, 30), size, strict=True)]  # a pixel of the picture
    rows, columns = (slice(int(np.ceil(width)), -int(np.ceil(width))) for width in reach)
    torch.testing.assert_close(found[rows, columns], cropped[rows, columns], atol=2e-3, rtol=0)
    sees_beyond = (found - cropped).abs().max() > 1
    assert sees_beyond == antialias, "when shrinking, the two pixels beside a sample lie inside"


@both
def test_windows_side_by_side_are_the_whole_picture_without_a_seam(implementation):
    [picture], _ = noise((40, 50))
    whole = seen(implementation, picture, [0.0, 0.0, 50.0, 40.0], [60, 75])
    left = seen(implementation, picture, [0.0, 0.0, 20.0, 40.0], [60, 30])
    right = seen(implementation, picture, [20.0, 0.0, 50.0, 40.0], [60, 45])
    torch.testing.assert_close(torch.cat([left, right], 1), whole, atol=2e-3, rtol=0)


@both
@pytest.mark.parametrize("whole", [False, True])
def test_what_lies_outside_the_picture_is_exactly_zero(implementation, whole):
    picture = torch.full((6, 8, 3), 200, dtype=torch.uint8)
    settings = {"mean": MEAN, "std": STD, "whole_levels": whole}
    found = seen(implementation, picture, [-4.0, -2.0, 12.0, 10.0], [24, 32], **settings)  # twice as large
    expected = torch.zeros(24, 32, 3)
    expected[4:16, 8:24] = (200 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert ((found == 0) == (expected == 0)).all()


@both
@pytest.mark.parametrize("window", [[-20.0, 0.0, -1.0, 6.0], [9.0, 7.0, 20.0, 30.0], [0.0, 6.0, 8.0, 12.0]])
def test_a_window_beside_the_picture_shows_nothing(implementation, window):
    picture = torch.full((6, 8, 3), 200, dtype=torch.uint8)
    assert torch.count_nonzero(seen(implementation, picture, window, [24, 32], mean=MEAN, std=STD)) == 0


@both
@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("window", [WINDOW, [-9.0, 11.5, 33.0, 52.0]])
def test_a_turned_view_is_numpys_turn_of_the_view(implementation, window, turns):
    [picture], _ = noise((40, 50))
    size = [33, 47]
    straight = seen(implementation, picture, window, size)
    turned = seen(implementation, picture, window, size[::-1] if turns % 2 else size, turns=turns)
    np.testing.assert_allclose(turned, np.rot90(straight, turns), atol=1e-4)
    mirrored = seen(implementation, picture, window, size[::-1] if turns % 2 else size, turns=turns, mirrored=True)
    assert torch.equal(mirrored, turned.flip(1))


@both
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_whole_levels_of_a_turned_view_are_those_of_the_turned_picture(implementation, turns):
    [picture], _ = noise((40, 50))
    size, turned = [33, 47], torch.from_numpy(np.rot90(picture, turns).copy())
    window = [0.0, 0.0, float(turned.shape[1]), float(turned.shape[0])]
    found = seen(implementation, picture, [0.0, 0.0, 50.0, 40.0], size, turns=turns, whole_levels=True)
    expected = seen(implementation, turned, window, size, whole_levels=True)
    assert (found - expected).abs().max() <= 1
    assert (found != expected).float().mean() < 0.01, "values between two levels"


@both
def test_a_picture_turned_four_times_and_mirrored_twice_is_itself(implementation):
    [picture], _ = noise((20, 33))
    once = picture
    for mirrored in (True, False, True, False):  # two mirrored quarter turns undo each other
        height, width, _ = once.shape
        window = [0.0, 0.0, float(width), float(height)]
        once = seen(implementation, once, window, [width, height], turns=1, mirrored=mirrored).byte()
    expected = picture
    for mirrored in (True, False, True, False):
        expected = torch.from_numpy(np.rot90(expected).copy())
        expected = expected.flip(1) if mirrored else expected
    assert torch.equal(once, expected)
    for _ in range(4):
        height, width, _ = once.shape
        once = seen(implementation, once, [0.0, 0.0, float(width), float(height)], [width, height], turns=1).byte()
    assert torch.equal(once, expected)


@both
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_pixel_shows_the_point_to_which_the_views_inverse_leads(implementation, turns, mirrored):
    row, column = np.mgrid[:40, :50]
    ramp = torch.from_numpy(np.stack([4 * column, 5 * row], axis=-1).astype(np.uint8))  # 4 x - 2, 5 y - 2.5
    window, size = [7.3, 4.2, 37.1, 24.9], [31, 44]
    pixels = seen(implementation, ramp, window, size, turns=turns, mirrored=mirrored)
    y, x = torch.meshgrid(torch.arange(31) + 0.5, torch.arange(44) + 0.5, indexing="ij")
    points = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    places = move_points(inverse(one_view(window, size, mirrored, turns)), points).view(31, 44, 2)
    torch.testing.assert_close(pixels, places * torch.tensor([4.0, 5.0]) - torch.tensor([2.0, 2.5]), atol=1e-3, rtol=0)


def test_kernel_and_reference_agree_on_any_mixture_of_views():
    generator = torch.Generator().manual_seed(0)
    count = 40
    images = torch.randint(0, 256, (count, 23, 31, 2), generator=generator, dtype=torch.uint8)
    low, sides = 40 * torch.rand(count, 2, generator=generator) - 12, 45 * torch.rand(count, 2, generator=generator)
    view = View(
        torch.cat([low, low + sides + 0.5], 1),
        torch.randint(1, 33, (count, 2), generator=generator),
        torch.randint(0, 2, (count,), generator=generator) == 1,
        torch.randint(0, 4, (count,), generator=generator),
    )
    raw = torch.stack([torch.randint(1, side + 1, (count,), generator=generator) for side in (23, 31)], 1)
    for antialias in (True, False):
        settings = {"bucket": (32, 64), "mean": (90.0, 120.0), "std": (50.0, 60.0), "antialias": antialias}
        found, expected = (one(images, raw, view, **settings) for one in (as_operator, as_reference))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@both
def test_pictures_have_any_number_of_bands(implementation):
    generator = torch.Generator().manual_seed(0)
    for bands in (1, 5):
        picture = torch.randint(0, 256, (20, 33, bands), generator=generator, dtype=torch.uint8)
        mean, std = tuple(100.0 + band for band in range(bands)), tuple(50.0 + band for band in range(bands))
        found = seen(implementation, picture, [0.0, 0.0, 33.0, 20.0], [20, 33], mean=mean, std=std)
        torch.testing.assert_close(found, (picture - torch.tensor(mean)) / torch.tensor(std), atol=1e-5, rtol=0)


def test_levels_for_another_number_of_bands_are_refused():
    [picture], _ = noise((20, 33))
    with pytest.raises(ValueError, match="expected a mean and a std for each of the 3 bands, received 5 and 5"):
        seen(as_operator, picture, [0.0, 0.0, 33.0, 20.0], [20, 33], mean=(0.0,) * 5, std=(1.0,) * 5)


def test_no_pictures_give_no_pixels():
    size = torch.zeros(0, 2, dtype=torch.long)
    none = torch.zeros(0, 5, 6, 3, dtype=torch.uint8)
    assert as_operator(none, size, View.whole(size, size)).shape == (0, 3, *BUCKET)


def test_the_operator_keeps_torchs_contract():
    _, (images, raw_sizes, view) = batch(True)
    for turns in (None, torch.arange(len(CASES)) % 4):
        columns = images, raw_sizes, *view._replace(turns=turns)[:4]
        torch.library.opcheck(
            torch.ops.maskrcnn.resize.default,
            (*columns, *BUCKET, [*MEAN], [*STD], True, True, False, True, True),
        )


@pytest.mark.parametrize("implementation", [as_operator, inspect.unwrap(as_reference)])
def test_it_traces_as_one_graph(implementation):
    _, (images, raw_sizes, view) = batch(True)
    compiled = torch.compile(implementation, fullgraph=True, backend="eager")
    for turns in (None, torch.arange(len(CASES)) % 4):
        arguments = images, raw_sizes, view._replace(turns=turns)
        assert torch.equal(compiled(*arguments), implementation(*arguments))


def test_turning_between_pixels_is_what_pytorch_samples():
    generator = torch.Generator().manual_seed(0)
    view = View(
        torch.tensor([[0.0, 0.0, 40.0, 30.0], [-5.0, 3.0, 25.0, 43.0]]),
        torch.tensor([[30, 40], [60, 64]]),
        torch.tensor([True, False]),
        torch.tensor([0, 3]),
        torch.tensor([20.0, -100.0]),
    )
    upright, room = angles.surroundings(view, (64, 96))
    pixels = torch.rand(2, 3, *room, generator=generator)
    outside = (0.25, -0.5, 2.0)
    to = compose(matrix(upright), inverse(view))
    expected = angles.turn_anywhere(pixels, to, view, (64, 96), outside)
    for given in (pixels, pixels.contiguous(memory_format=torch.channels_last)):
        found = angles.turn(given, upright, view, (64, 96), outside)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    compiled = torch.compile(angles.turn_anywhere, fullgraph=True, backend="eager")
    assert torch.equal(compiled(pixels, to, view, (64, 96), outside), expected)


def test_the_room_for_views_at_an_angle_follows_from_the_bucket_where_numbers_are_not_at_hand():
    view = View.whole(torch.tensor([[30, 40]]), torch.tensor([[30, 40]]))._replace(angles=torch.tensor([90.0]))
    assert angles.surroundings(view, (32, 64))[1] == (44, 34)
    assert angles.surroundings(view.to(torch.device("meta")), (32, 64))[1] == (76, 76)


@both
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("rounding", [{}, {"whole_levels": True}, {"fixed_point": True, "area": True}])
def test_levels_as_float32_give_what_bytes_give_and_stay_as_they_were(implementation, bands, rounding):
    images = torch.randint(0, 256, (2, 21, 33, bands), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    raw_sizes, sizes = torch.tensor([[21, 33], [17, 30]]), torch.tensor([[40, 60], [9, 15]])
    view = View.whole(raw_sizes, sizes, torch.tensor([False, True]))._replace(turns=torch.tensor([0, 2]))
    settings = {"mean": (100.0, 90.0, 80.0, 70.0, 60.0)[:bands], "std": (58.0,) * bands, **rounding}
    floats = images.float()
    found = implementation(floats, raw_sizes, view, **settings)
    assert torch.equal(found, implementation(images, raw_sizes, view, **settings))
    assert torch.equal(floats, images.float())


def test_levels_between_whole_ones_are_kept_and_kernel_and_definition_agree():
    images = 255 * torch.rand(2, 21, 33, 5, generator=torch.Generator().manual_seed(2))
    raw_sizes, sizes = torch.tensor([[21, 33], [17, 30]]), torch.tensor([[21, 33], [40, 19]])
    settings = {"mean": (0.0,) * 5, "std": (1.0,) * 5}
    ours = as_operator(images, raw_sizes, View.whole(raw_sizes, sizes), **settings)
    torch.testing.assert_close(ours[0, :, :21, :33], images[0].permute(2, 0, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours, as_reference(images, raw_sizes, View.whole(raw_sizes, sizes), **settings))


@pytest.mark.parametrize("turns", [None, torch.arange(len(CASES)) % 4])
def test_views_at_an_angle_of_0_are_upright_ones(turns):
    _, (images, raw_sizes, view) = batch(True)
    view = view._replace(turns=turns)
    if turns is not None:
        view = view._replace(sizes=torch.where((turns % 2 == 1)[:, None], view.sizes.flip(1), view.sizes).clamp(max=96))
    found = as_operator(images, raw_sizes, view._replace(angles=torch.zeros(len(CASES))))
    torch.testing.assert_close(found, as_operator(images, raw_sizes, view), atol=0.03, rtol=0)


def test_a_pixel_of_a_view_at_an_angle_shows_the_point_to_which_its_inverse_leads():
    row, column = np.mgrid[:40, :50]
    ramp = torch.from_numpy(np.stack([4 * column, 5 * row], axis=-1).astype(np.uint8))  # 4 x - 2, 5 y - 2.5
    count = 24
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 2, generator=generator) * 8 + 12
    view = View(
        torch.cat([low, low + 6 + 10 * torch.rand(count, 2, generator=generator)], 1),
        torch.randint(20, 33, (count, 2), generator=generator),
        torch.arange(count) % 2 == 0,
        torch.arange(count) % 4,
        360 * torch.rand(count, generator=generator) - 180,
    )
    images, raw = ramp.expand(count, -1, -1, -1).contiguous(), torch.tensor([[40, 50]] * count)
    pixels = as_operator(images, raw, view, (32, 64), (0.0, 0.0), (1.0, 1.0)).permute(0, 2, 3, 1)
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    places = move_points(inverse(view), torch.stack([x, y], -1).reshape(1, -1, 2).expand(count, -1, -1))
    expected = places.view(count, 32, 64, 2) * torch.tensor([4.0, 5.0]) - torch.tensor([2.0, 2.5])
    shown = (y < view.sizes[:, :1, None]) & (x < view.sizes[:, 1:, None])
    assert (pixels - expected)[shown].abs().max() < 0.01
    assert torch.count_nonzero(pixels[~shown]) == 0


@pytest.mark.parametrize("angle", [0.0, 30.0, -90.0, 135.0])
def test_what_lies_beyond_an_image_at_an_angle_is_padding(angle):
    gray = torch.full((1, 30, 50, 3), 200, dtype=torch.uint8)
    raw, mean, std = torch.tensor([[30, 50]]), (100.0, 50.0, 20.0), (50.0, 25.0, 10.0)
    view = View(torch.tensor([[-15.0, -25.0, 65.0, 55.0]]), torch.tensor([[80, 80]]), torch.tensor([False]))
    view = view._replace(angles=torch.tensor([angle]))
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    places = move_points(inverse(view), torch.stack([x, y], -1).reshape(1, -1, 2)).view(96, 128, 2)
    beyond = torch.maximum(
        (places - torch.tensor([25.0, 15.0])).abs() - torch.tensor([25.0, 15.0]), torch.tensor(-9)
    ).amax(2)
    for black, outside in ((False, (0.0, 0.0, 0.0)), (True, (-2.0, -2.0, -2.0))):
        pixels = as_operator(gray, raw, view, BUCKET, mean, std, black_padding=black)[0]
        for band, value, inside in zip(pixels, outside, (2.0, 6.0, 18.0), strict=True):
            torch.testing.assert_close(band[beyond > 2], torch.full_like(band[beyond > 2], value))
            torch.testing.assert_close(band[beyond < -2], torch.full_like(band[beyond < -2], inside))


def test_images_that_shrink_at_an_angle_are_averaged():
    [picture], _ = noise((240, 320))
    view = View(torch.tensor([[0.0, 0.0, 320.0, 240.0]]), torch.tensor([[24, 32]]), torch.tensor([False]))
    deviations = [
        as_operator(picture[None], torch.tensor([[240, 320]]), view._replace(angles=angle), BUCKET)[
            0, :, 6:18, 8:24
        ].std()
        for angle in (None, torch.tensor([33.0]))
    ]
    assert deviations[1] < 1.1 * deviations[0] < 10, "two pixels beside each sample would vary as the noise, by 74"
