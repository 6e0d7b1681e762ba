import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.decode import decode
from maskrcnn.data.oddities import Oddities, levels_used


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (np.array([[0, 4095]], np.uint16), 4095 / 65535),
        (np.array([[65535]], ">u2"), 1.0),
        (np.array([[51]], np.uint8), 0.2),
        (np.array([[70000, -3]], np.int32), 70000 / (2**31 - 1)),
        (np.array([[0.5]], np.float32), 1.0),
        (np.zeros((0, 4), np.uint8), 0.0),
    ],
)
def test_the_largest_number_tells_how_much_of_the_range_is_used(values, share):
    assert levels_used(values) == share


def colours_of_16_bits(path, value):
    """A PNG of 16-bit colours, which Pillow reads but does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + struct.pack(">H", value) * 3 * 5) * 4
    header = struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def told(*paths):
    oddities = Oddities()
    for path in paths:
        decode(path, oddities=oddities)
    return list(oddities.notes())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.jp2"])
@pytest.mark.parametrize(("most", "share"), [(100, "0.2 %"), (2600, "4 %"), (4095, "6 %"), (0, ""), (60000, "")])
def test_few_levels_of_sixteen_bits_are_told(tmp_path, name, most, share):
    Image.fromarray(np.linspace(0, most, 24, dtype=np.uint16).reshape(4, 6)).save(tmp_path / name)
    expected = [
        f"{tmp_path / name} uses {share} of its 16 bits and is read nearly black; data.levels=fixed "
        "takes the range that is used"
    ]
    assert told(tmp_path / name) == (expected if share else [])


def test_dim_colours_of_sixteen_bits_are_told_and_dim_photos_of_eight_are_not(tmp_path):
    colours_of_16_bits(tmp_path / "a.png", 4095)
    colours_of_16_bits(tmp_path / "b.png", 50000)
    Image.new("RGB", (5, 4), (3, 3, 3)).save(tmp_path / "c.png")
    Image.new("RGB", (5, 4), (3, 3, 3)).save(tmp_path / "d.jpg")
    (note,) = told(*sorted(tmp_path.iterdir()))
    assert note.startswith(f"{tmp_path / 'a.png'} uses 6 % of its 16 bits and is read nearly black; data.levels=fixed")


def test_many_threads_tell_it_once_with_a_count():
    oddities = Oddities()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: oddities.add(f"{number:03}.png", share=0.04), range(300)))
    (note,) = oddities.notes()
    assert note.startswith(
        "000.png uses 4 % of its 16 bits and is read nearly black, as with 299 more; data.levels=fixed"
    )
    oddities.add("300.png", share=0.04)
    assert list(oddities.notes()) == []


def test_a_rotation_that_annotations_leave_out_is_told(tmp_path):
    exif, oddities = Image.Exif(), Oddities()
    exif[0x0112] = 6
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (40, 24)).save(tmp_path / name, exif=exif)
    decode(tmp_path / "a.jpg", (40, 24), oddities=oddities)
    assert list(oddities.notes()) == []
    for name in ("c.jpg", "b.jpg"):
        decode(tmp_path / name, (24, 40), oddities=oddities)
    (note,) = oddities.notes()
    assert note.startswith(
        f"{tmp_path / 'b.jpg'} carries a rotation that its annotated size leaves out, as with 1 more;"
    )
