"""Parts of images: the same pixels as a whole image's, of a TIFF without reading the rest of its file."""

import struct
import threading
from functools import partial
from io import BytesIO
from itertools import accumulate

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.decode import decode, decode_bytes
from maskrcnn.data.parts import PartReader, read_window, window_size
from maskrcnn.data.tiff_window import can_be_cut, cut_out, read_header

DECODE = partial(decode_bytes, max_rowsize=None)
WINDOWS = [(30, 70, 200, 111), (0, 0, 210, 150), (205, 140, 210, 150), (0, 149, 1, 150)]
PIXELS = (np.add.outer(7 * np.arange(150), np.arange(210))[..., None] * [1, 2, 3] % 251).astype(np.uint8)


class Counted(BytesIO):
    """A file that counts the bytes that are read of it."""

    taken = 0

    def read(self, number=-1):
        found = super().read(number)
        self.taken += len(found)
        return found


def write_tiles(path, *, order, big, side=64, planar=False):
    """An uncompressed TIFF of square tiles, written as the standard says."""
    number, height, width = ("Q", *PIXELS.shape[:2]) if big else ("L", *PIXELS.shape[:2])
    down, across = -(-height // side), -(-width // side)
    padded = np.zeros((down * side, across * side, 3), np.uint8)
    padded[:height, :width] = PIXELS
    layers = np.moveaxis(padded, 2, 0)[..., None] if planar else padded[None]
    blocks = [
        layer[row * side :][:side, column * side :][:, :side].tobytes()
        for layer in layers
        for row in range(down)
        for column in range(across)
    ]
    begin = 16 if big else 8
    starts = [begin, *accumulate(map(len, blocks), initial=begin)][1:]
    tags = {256: ("H", [width]), 257: ("H", [height]), 258: ("H", [8] * 3), 259: ("H", [1]), 262: ("H", [2])}
    tags |= {277: ("H", [3]), 284: ("H", [2 if planar else 1]), 322: (number, [side]), 323: (number, [side])}
    tags |= {324: (number, starts[:-1]), 325: (number, [len(block) for block in blocks])}
    room, entry, kinds = (8, "HHQ", {"H": 3, "Q": 16}) if big else (4, "HHL", {"H": 3, "L": 4})
    directory = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    behind, rest = starts[-1] + len(directory) + len(tags) * (struct.calcsize(f"={entry}") + room) + room, b""
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{kind}", *values)
        directory += struct.pack(f"{order}{entry}", tag, kinds[kind], len(values))
        if len(content) > room:
            directory, rest = directory + struct.pack(f"{order}{number}", behind + len(rest)), rest + content
        else:
            directory += content.ljust(room, b"\0")
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, starts[-1]) if big else struct.pack(f"{order}L", starts[-1])
    path.write_bytes(b"".join([head, *blocks, directory, bytes(room), rest]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("planar", [False, True], ids=["interleaved", "planar"])
def test_a_window_of_a_tiled_tiff_has_the_pixels_of_the_whole_image(tmp_path, order, big, planar):
    path = tmp_path / "tiled.tif"
    write_tiles(path, order=order, big=big, planar=planar)
    assert window_size(path) == (150, 210)
    for window in WINDOWS:
        x1, y1, x2, y2 = window
        assert np.array_equal(read_window(path, window, (150, 210), DECODE), PIXELS[y1:y2, x1:x2])


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P", "RGBA"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_window_of_strips_has_the_pixels_of_the_whole_image(tmp_path, mode, compression):
    path, image = tmp_path / "strips.tif", Image.fromarray(PIXELS)
    image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200) if mode == "I;16" else image.convert(mode)
    if compression == "jpeg" and mode not in ("RGB", "L"):
        return
    image.save(path, compression=compression, tiffinfo={278: 16})
    whole = decode(path)
    for window in WINDOWS:
        x1, y1, x2, y2 = window
        assert np.array_equal(read_window(path, window, None, DECODE), whole[y1:y2, x1:x2])


def test_of_a_large_tiff_only_the_blocks_of_the_window_are_read(tmp_path):
    path = tmp_path / "tiled.tif"
    write_tiles(path, order="<", big=True, side=16)
    file = Counted(path.read_bytes())
    header = read_header(file)
    assert can_be_cut(header)
    before = file.taken
    _, corner = cut_out(file, header, (33, 20, 47, 30))
    assert corner == (32, 16)
    assert file.taken - before == 16 * 16 * 3
    assert before < 5000


@pytest.mark.parametrize(
    "damage", [lambda b: b[:6], lambda b: b[:-400], lambda b: b"II*\0" + b[4:8] * 2, lambda b: b""]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_tiff_is_left_to_the_decoder(tmp_path, damage):
    path = tmp_path / "tiled.tif"
    write_tiles(path, order="<", big=False)
    path.write_bytes(damage(path.read_bytes()))
    assert read_window(path, WINDOWS[0], None, DECODE) is None
    with pytest.raises(ValueError, match=r"tiled\.tif"):
        PartReader().read(path, WINDOWS[0], None, DECODE)


def test_a_turned_tiff_and_one_of_a_single_block_are_decoded_whole(tmp_path):
    turned, single = tmp_path / "turned.tif", tmp_path / "single.tif"
    Image.fromarray(PIXELS).save(turned, tiffinfo={278: 16, 274: 6})
    Image.fromarray(PIXELS).save(single, tiffinfo={278: 150})
    assert window_size(turned) is window_size(single) is None
    assert np.array_equal(
        PartReader().read(turned, (5, 10, 30, 20), (210, 150), DECODE), np.rot90(PIXELS, -1)[10:20, 5:30]
    )
    assert np.array_equal(PartReader().read(single, (5, 10, 30, 20), None, DECODE), PIXELS[10:20, 5:30])


def test_annotations_of_another_size_are_refused(tmp_path):
    write_tiles(tmp_path / "tiled.tif", order="<", big=False)
    with pytest.raises(
        ValueError, match=r"tiled\.tif has \(height, width\) \(150, 210\) but its annotations say \(9, 9\)"
    ):
        PartReader().read(tmp_path / "tiled.tif", (0, 0, 5, 5), (9, 9), DECODE)


def counting(counts):
    lock = threading.Lock()

    def count(content, path, size):
        with lock:
            counts[path.name] = counts.get(path.name, 0) + 1
        return decode_bytes(content, path, size, None)

    return count


def test_an_image_is_decoded_once_for_all_of_its_parts_also_by_several_threads(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    counts, found, reader = {}, {}, PartReader()
    decoder = counting(counts)

    def read(x):
        found[x] = reader.read(tmp_path / "a.png", (x, 0, x + 10, 150), (150, 210), decoder)

    threads = [threading.Thread(target=read, args=(10 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {"a.png": 1}
    assert all(np.array_equal(found[x], PIXELS[:, x : x + 10]) for x in found)
    assert len(found) == 8


def test_what_is_kept_is_bounded_and_the_image_used_last_stays(tmp_path):
    for name in "abc":
        Image.fromarray(PIXELS).save(tmp_path / f"{name}.png")
    counts, reader = {}, PartReader(most_kept=2 * PIXELS.nbytes)
    for name in "abacaba":
        reader.read(tmp_path / f"{name}.png", (0, 0, 1, 1), None, counting(counts))
    assert counts == {"a.png": 1, "b.png": 2, "c.png": 1}
    alone, counts = PartReader(most_kept=1), {}
    for name in "aab":
        alone.read(tmp_path / f"{name}.png", (0, 0, 1, 1), None, counting(counts))
    assert counts == {"a.png": 1, "b.png": 1}


def test_an_image_that_cannot_be_decoded_is_tried_again(tmp_path):
    path, reader = tmp_path / "a.png", PartReader()
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.png"):
        reader.read(path, (0, 0, 5, 5), None, DECODE)
    Image.fromarray(PIXELS).save(path)
    assert np.array_equal(reader.read(path, (0, 0, 5, 5), None, DECODE), PIXELS[:5, :5])
