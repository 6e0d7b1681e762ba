"""Images that are made to fill the memory or never to end: refused by their header, in a sentence."""

import os
import runpy
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.decode import decode, open_file, probe
from maskrcnn.data.image_file import USUAL_PIXELS, allow_pixels, is_blank, most_pixels, webp_size
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.pages import pages
from maskrcnn.data.parts import read_window
from maskrcnn.data.raw import _rgb_array

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "torture_bombs.py"))
READ = {"behind.png", "loop.tif", "loop-deep.tif", "tags.tif", "pages.tif", "pages-deep.tif", "restarts.jpg"}
"""Images that are whole although they are made to look for more: these are read."""
SLOW = {
    "frames.gif",
    "zeros.png",
    "zeros-deep.png",
    "text.png",
    "behind.png",
    "long-text.png",
    "profile.png",
    "texts.png",
    "fax.tif",
}
SLOW |= {"pieces.tif", "restarts.jpg", "blank.avif", "scans-90.jpg", "pages.tif", "pages-deep.tif"}
"""Images that take long to draw; `python tools/torture_bombs.py` reads them, too, and measures time and memory."""


@pytest.fixture(autouse=True)
def usual_limit():
    yield
    allow_pixels(USUAL_PIXELS)


def read_all(path):
    probe(path)
    decode(path)
    with open_file(path) as file:
        return sum(1 for _ in pages(file, path, Oddities()))


@pytest.mark.parametrize("name", sorted(TOOL["IMAGES"].keys() - SLOW))
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_ends_in_a_sentence(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(TOOL["IMAGES"][name]())
    if name in READ:
        assert read_all(path)
    else:
        with pytest.raises(ValueError, match=f"the image .*{name}"):
            read_all(path)


def test_the_limit_is_a_setting_and_its_name_is_told(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)).save(path)
    allow_pixels(149_998)
    with pytest.raises(ValueError, match=r"a\.png .* exceeds data\.max_pixels=149998 pixels; .* set data\.max_pixels"):
        probe(path)
    allow_pixels(150_000)
    assert most_pixels() == 150_000
    assert decode(path).shape == (300, 500, 3)


@pytest.mark.parametrize(("size", "bands"), [((1500, 2000), "P"), ((1500, 2000), "L"), ((1000, 900), "L")])
def test_an_image_is_opened_with_the_number_that_its_refusal_names(size, bands, tmp_path):
    """Two are blank and within the limit, one is beyond it and blank."""
    path = tmp_path / "a.png"
    Image.new(bands, size, 255).save(path)
    allow_pixels(4_000_000 if size == (1500, 2000) else 500_000)
    with pytest.raises(ValueError, match=r"or set data\.max_pixels to \d+$") as refusal:
        decode(path)
    enough = int(str(refusal.value).rpartition(" ")[2])
    allow_pixels(enough - 2)
    with pytest.raises(ValueError, match=f"or set data\\.max_pixels to {enough}$"):
        decode(path)
    allow_pixels(enough)
    assert decode(path).shape[:2] == size[::-1]


def test_a_photo_of_more_than_a_hundred_megapixels_is_no_bomb():
    assert not is_blank(11_648 * 8_736, 20_000_000)  # 5 pixels in a byte, as of a medium format camera
    assert is_blank(11_648 * 8_736, 300_000)
    assert not is_blank(5_000 * 6_000, 100)  # an empty page of a scanner


def test_a_webp_states_its_size_in_each_of_its_three_forms():
    image, file, lossless, animated = Image.new("RGB", (37, 21)), BytesIO(), BytesIO(), BytesIO()
    image.save(file, "WEBP")
    image.save(lossless, "WEBP", lossless=True)
    image.save(animated, "WEBP", save_all=True, append_images=[Image.new("RGB", (37, 21), "red")])
    assert [webp_size(one.getvalue()[:64]) for one in (file, lossless, animated)] == [(21, 37)] * 3


def test_windows_of_a_tiff_have_no_limit(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.arange(120 * 90, dtype=np.uint32).astype(np.uint8).reshape(120, 90)).save(path, tile=None)
    image = np.asarray(Image.open(path))
    allow_pixels(90 * 60)
    window = read_window(
        path, (3, 5, 80, 25), (120, 90), lambda data, name, size: np.asarray(Image.open(BytesIO(data)))[..., None]
    )
    assert window is None or np.array_equal(window[..., 0], image[5:25, 3:80])


@pytest.mark.parametrize("factor", [1, 3])
def test_an_image_that_is_converted_in_strips_is_the_same(monkeypatch, factor):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (101, 67, 3), dtype=np.uint8)).convert("P")
    whole = _rgb_array(image, factor)
    monkeypatch.setattr("maskrcnn.data.raw.AT_ONCE", 67 * 7)
    np.testing.assert_array_equal(_rgb_array(image, factor), whole)


def test_a_pipe_and_a_folder_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.jpg").symlink_to("/dev/zero")
    for name, reason in (("a.jpg", "a pipe"), ("b.jpg", "directory"), ("c.jpg", "a device")):
        with pytest.raises(OSError, match=rf"{name} cannot be opened \(.*{reason}"):
            decode(tmp_path / name)
