"""Images that show nearly the same."""

import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from maskrcnn.data.health.near_duplicates import group, near_duplicates, shrink, signs


def scene(seed: int, size: tuple[int, int] = (90, 140)) -> Image.Image:
    """Blobs of colour, (height, width) pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC)


@pytest.fixture
def save(tmp_path):
    def write(name: str, image: Image.Image, **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return write


def test_copies_are_grouped_under_the_first_of_them(save):
    image = scene(1)
    paths = [
        save("other.png", scene(2)),
        save("first.png", image),
        save("small.png", image.resize((60, 44))),
        save("coarse.jpg", image, quality=40),
        save("third.png", scene(3)),
        save("bright.png", ImageEnhance.Brightness(image).enhance(1.2)),
        save("gray.png", image.convert("L")),
    ]
    assert near_duplicates(paths).tolist() == [0, 1, 1, 1, 4, 1, 1]


def test_a_copy_that_was_turned_upright_is_found(save):
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = scene(4)
    paths = [
        save("phone.jpg", stored, exif=turned),
        save("upright.jpg", stored.transpose(Image.Transpose.ROTATE_270)),
        save("stored.jpg", stored),
    ]
    assert near_duplicates(paths).tolist() == [0, 0, 2]


def test_what_cannot_be_decoded_is_like_no_other(save, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"none")
    (tmp_path / "b.jpg").write_bytes(b"none")
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg", save("c.png", scene(1)), tmp_path / "absent.jpg"]
    told = []
    assert near_duplicates(paths, lambda *done: told.append(done)).tolist() == [0, 1, 2, 3]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert near_duplicates([]).tolist() == []


def test_images_of_one_colour_are_the_same_and_no_others(save):
    black, white = Image.new("RGB", (40, 30)), Image.new("RGB", (40, 30), "white")
    paths = [save("a.png", scene(1)), save("b.png", black), save("c.png", white), save("d.png", scene(5))]
    assert near_duplicates(paths).tolist() == [0, 1, 1, 3]


def test_many_images_cost_no_comparison_of_all_pairs():
    """20,000 different ones and 1,000 blurred copies of them; all pairs would be 220 million comparisons."""
    random = np.random.default_rng(0)
    different = random.integers(0, 256, (20_000, 32, 32), np.uint8)
    copies = np.clip(different[:1000].astype(np.int16) + random.integers(-6, 7, (1000, 32, 32)), 0, 255)
    small = np.concatenate([different, copies.astype(np.uint8)])
    group(small[:2])  # compiles
    begin = time.process_time()
    groups = group(small)
    assert time.process_time() - begin < 5
    assert (groups[:20_000] == np.arange(20_000)).all()
    assert (groups[20_000:] == np.arange(1000)).all()


def test_many_equal_images_are_compared_with_the_first_alone():
    small = np.zeros((20_000, 32, 32), np.uint8)
    small[1::2, :16] = 255
    assert np.unique(group(small)).tolist() == [0, 1]


def test_signs_do_not_see_brightness_and_contrast():
    image = np.asarray(scene(6))
    dark = (image // 2 + 40).astype(np.uint8)
    one, other = signs(np.stack([shrink(image), shrink(dark)])).tolist()
    assert (one ^ other).bit_count() <= 2
    assert one & 1 == 0
