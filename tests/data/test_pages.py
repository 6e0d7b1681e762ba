import struct
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.decode import decode, open_file, probe
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.pages import pages

SHADES = [40, 120, 200]


def shade(value, size=(40, 24)):
    return Image.new("RGB", size, (value, 255 - value, value // 2))


def stack(path, images, **options):
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


def read(path):
    with open_file(path) as file:
        return list(pages(file, path, Oddities()))


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp", "a.avif"])
def test_each_page_is_an_image_of_its_own(tmp_path, name):
    path = stack(tmp_path / name, [shade(value) for value in SHADES], **({"lossless": True} if "webp" in name else {}))
    found = read(path)
    assert [str(page) for page, _ in found] == [f"{path}, page {number}" for number in (1, 2, 3)]
    assert [image.shape for _, image in found] == [(24, 40, 3)] * 3
    assert np.abs(np.array([image[5, 9, 0] for _, image in found], int) - SHADES).max() <= 3
    assert probe(path).has_pages


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.gif", "a.bmp"])
def test_a_file_of_one_image_has_no_page_numbers(tmp_path, name):
    shade(90).save(tmp_path / name)
    ((page, image),) = read(tmp_path / name)
    assert str(page) == str(tmp_path / name)
    np.testing.assert_array_equal(image, decode(tmp_path / name))
    assert not probe(tmp_path / name).has_pages


def test_pages_may_have_sizes_and_turns_of_their_own(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.tif"
    turned = shade(120, (32, 16))
    turned.encoderinfo = {"exif": exif, "tiffinfo": {274: 6}}
    stack(path, [shade(40), turned])
    assert [image.shape for _, image in read(path)] == [(24, 40, 3), (32, 16, 3)]


def test_a_photo_with_its_preview_is_one_image(tmp_path):
    path = stack(tmp_path / "a.jpg", [shade(40), shade(120, (20, 12))], format="MPO")
    assert Image.open(path).n_frames == 2
    assert [(page.number, image.shape) for page, image in read(path)] == [(0, (24, 40, 3))]
    assert not probe(path).has_pages


def test_smaller_copies_in_a_stack_are_passed_over(tmp_path):
    small = shade(40, (20, 12))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    path = stack(tmp_path / "a.tif", [shade(40), small, shade(200)])
    assert [(page.number, image.shape[0]) for page, image in read(path)] == [(1, 24), (3, 24)]


def test_a_page_that_is_broken_is_named_after_those_before_it(tmp_path):
    path = stack(tmp_path / "a.tif", [shade(value) for value in SHADES], compression="tiff_lzw")
    with Image.open(path) as image:
        image.seek(1)
        at = image.tag_v2[273][0]
    data = bytearray(path.read_bytes())
    data[at : at + 30] = b"\xff" * 30
    path.write_bytes(data)
    with open_file(path) as file:
        rest = pages(file, path, Oddities())
        assert str(next(rest)[0]).endswith("page 1")
        with pytest.raises(ValueError, match=r"the image .*a\.tif, page 2 cannot be decoded .*restore or remove it"):
            next(rest)


def test_an_animation_that_breaks_off_gives_the_images_before(tmp_path):
    path = stack(tmp_path / "a.gif", [shade(value) for value in SHADES])
    whole = path.read_bytes()
    for length in range(len(whole) - 1, 60, -7):
        path.write_bytes(whole[:length])
        with suppress(ValueError):
            assert decode(path).shape == (24, 40, 3)
            assert 1 <= len(read(path)) <= 3


def test_a_page_that_states_an_absurd_size_takes_no_room(tmp_path):
    path = stack(tmp_path / "a.tif", [shade(40), shade(120, (33, 17))])
    data = path.read_bytes()
    wide = struct.pack("<HHI", 256, 4, 1)
    assert data.count(wide) == 2
    at = data.rindex(wide) + len(wide)
    path.write_bytes(data[:at] + struct.pack("<I", 150_000_000) + data[at + 4 :])
    with open_file(path) as file, pytest.raises(ValueError, match=r"a\.tif, page 2 states a .* of .17, 150000000."):
        list(pages(file, path, Oddities()))


def test_pages_come_one_by_one(tmp_path):
    """A stack of which each page alone is decoded needs no room for all."""
    path = stack(tmp_path / "a.tif", [shade(value) for value in SHADES])
    with open_file(path) as file:
        first, _ = next(pages(file, path, Oddities()))
    assert first.number == 1


def test_decoding_a_stack_tells_that_one_page_was_read(tmp_path):
    oddities = Oddities()
    for name in ("b.tif", "a.tif"):
        decode(stack(tmp_path / name, [shade(value) for value in SHADES]), oddities=oddities)
    shade(3).save(tmp_path / "c.png")
    decode(tmp_path / "c.png", oddities=oddities)
    (note,) = oddities.notes()
    assert note == f"{tmp_path / 'a.tif'} holds several images, of which only the first is read, as with 1 more"
