"""Images of any number type and number of bands, from files to levels."""

import struct
import zlib
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from maskrcnn.data import tiff
from maskrcnn.data.decode import decode, decode_bytes, decode_picture, decode_raw, open_file, probe
from maskrcnn.data.header import UPRIGHT, Header
from maskrcnn.data.health.near_duplicates import near_duplicates
from maskrcnn.data.levels import Levels, to_levels
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.pages import pages
from maskrcnn.data.parts import read_window
from maskrcnn.overview import reduced

HEIGHT, WIDTH = 19, 26
LZW, DEFLATE, PACKBITS, ZSTD = 5, 8, 32773, 50000


def numbers(bands, dtype="u2", size=(HEIGHT, WIDTH)):
    values = np.random.default_rng(0).integers(0, 120 if np.dtype(dtype).itemsize == 1 else 3000, (*size, bands))
    return values.astype(dtype)


def compressed(data, compression, row_bytes):
    """Bytes as a strip: Pillow compresses them as the pixels of a gray image."""
    if compression in (1, DEFLATE):
        return data if compression == 1 else zlib.compress(data)
    file, name = BytesIO(), {LZW: "tiff_lzw", PACKBITS: "packbits", ZSTD: "zstd"}[compression]
    Image.frombytes("L", (row_bytes, len(data) // row_bytes), data).save(
        file, "TIFF", compression=name, tiffinfo={278: 4096}
    )
    with Image.open(file) as image:
        (offset,), (count,) = image.tag_v2[273], image.tag_v2[279]
    return file.getvalue()[offset : offset + count]


def differences(block, predictor):
    """What the predictor makes of a block's numbers, as bytes."""
    if predictor == 2:
        whole = block.astype(block.dtype.newbyteorder("=")).view(f"u{block.dtype.itemsize}")
        block = np.concatenate([whole[:, :1], np.diff(whole, axis=1)], axis=1).astype(block.dtype.str.replace("f", "u"))
    if predictor != 3:
        return block.tobytes()
    rows, columns, bands = block.shape
    planes = block.astype(f">f{block.dtype.itemsize}").view(np.uint8).reshape(rows, columns * bands, -1)
    planes = planes.transpose(0, 2, 1).reshape(rows, -1, bands)
    return np.concatenate([planes[:, :1], np.diff(planes, axis=1)], axis=1).tobytes()


def write_tiff(
    path, image, *, planar=False, tile=None, rows=7, compression=1, predictor=1, order="<", extra=None, **more
):
    """A TIFF written by hand; `more` are tags by their names in `tiff`."""
    height, width, bands = image.shape
    image = image.astype(image.dtype.newbyteorder(order))
    blocks = []
    for plane in np.moveaxis(image, 2, 0)[..., None] if planar else [image]:
        for top in range(0, height, tile[0] if tile else rows):
            for left in range(0, width, tile[1] if tile else width):
                block = plane[top : top + (tile[0] if tile else rows), left : left + (tile[1] if tile else width)]
                if tile:
                    block = np.pad(block, [(0, tile[0] - block.shape[0]), (0, tile[1] - block.shape[1]), (0, 0)])
                row_bytes = block.shape[1] * block.shape[2] * block.dtype.itemsize
                blocks.append(compressed(differences(block, predictor), compression, row_bytes))
    tags = ImageFileDirectory_v2(b"II*\0\0\0\0\0" if order == "<" else b"MM\0*\0\0\0\0")
    kind = {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    values = {tiff.WIDTH: width, tiff.HEIGHT: height, tiff.BITS: (8 * image.dtype.itemsize,) * bands}
    values |= {tiff.COMPRESSION: compression, tiff.PHOTOMETRIC: 1, tiff.NUM_BANDS: bands, tiff.PREDICTOR: predictor}
    values |= {tiff.PLANAR: 2 if planar else 1, tiff.SAMPLE_FORMAT: (kind,) * bands}
    values |= {tiff.EXTRA: tuple(extra)} if extra else {}
    values |= {tiff.TILE_HEIGHT: tile[0], tiff.TILE_WIDTH: tile[1]} if tile else {tiff.ROWS_PER_STRIP: rows}
    values |= {getattr(tiff, name.upper()): value for name, value in more.items()}
    places, lengths = (tiff.TILES, tiff.TILE_BYTES) if tile else (tiff.STRIPS, tiff.STRIP_BYTES)
    for tag, value in values.items():
        tags[tag] = value
    for tag in (places, lengths):
        tags.tagtype[tag] = 4
    tags[lengths], tags[places] = tuple(map(len, blocks)), (0,) * len(blocks)
    start = len(tags.tobytes(8)) + 8 if tile else 0  # Pillow itself adds where strips begin
    tags[places] = tuple(start + sum(map(len, blocks[:k])) for k in range(len(blocks)))
    head = b"II*\0" + struct.pack("<L", 8) if order == "<" else b"MM\0*" + struct.pack(">L", 8)
    path.write_bytes(head + tags.tobytes(8) + b"".join(blocks))
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("bands", "tile", "order"), [(5, None, "<"), (5, (16, 16), ">"), (2, (16, 32), "<"), (4, None, ">")]
)
def test_a_tiff_of_many_bands_keeps_every_number(tmp_path, dtype, planar, bands, tile, order):
    image = numbers(bands, dtype)
    path = write_tiff(tmp_path / "a.tif", image, planar=planar, tile=tile, order=order)
    found = decode_raw(path.read_bytes(), path)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, image)
    assert probe(path) == Header((HEIGHT, WIDTH), (HEIGHT, WIDTH), 1, 8 * image.itemsize, bands, "TIFF")


@pytest.mark.parametrize("compression", [LZW, DEFLATE, PACKBITS, ZSTD])
@pytest.mark.parametrize(("dtype", "predictor"), [("u2", 1), ("u2", 2), ("f4", 2), ("f4", 3), ("f8", 3)])
@pytest.mark.parametrize("planar", [False, True])
def test_a_compressed_tiff_keeps_every_number(tmp_path, compression, dtype, predictor, planar):
    image = numbers(3, dtype) + (np.float32(0.25) if dtype[0] == "f" else np.uint16(0))
    path = write_tiff(tmp_path / "a.tif", image, compression=compression, predictor=predictor, planar=planar)
    np.testing.assert_array_equal(decode_raw(path.read_bytes(), path), image)


@pytest.mark.parametrize("orientation", [1, *UPRIGHT])
def test_a_deep_tiff_is_turned_upright_as_pillow_turns_one_of_8_bits(tmp_path, orientation):
    image = numbers(1, "u1")
    path = write_tiff(tmp_path / "deep.tif", image.astype(np.uint16), orientation=orientation)
    Image.fromarray(image[..., 0]).save(tmp_path / "usual.tif", tiffinfo={274: orientation})
    expected = decode(tmp_path / "usual.tif")[..., :1]
    np.testing.assert_array_equal(decode_raw(path.read_bytes(), path), expected)
    assert probe(path).size == expected.shape[:2]
    stored = decode_raw(path.read_bytes(), path, (HEIGHT, WIDTH))
    if orientation >= 5:
        np.testing.assert_array_equal(stored, image)


def test_colours_with_more_bands_behind_them_are_read_as_before_by_a_recipe_of_three(tmp_path):
    image = numbers(4, "u1")
    path = write_tiff(tmp_path / "a.tif", image, photometric=2, extra=[0])
    with Image.open(path) as theirs:
        np.testing.assert_array_equal(decode(path), np.asarray(theirs.convert("RGB")))
    np.testing.assert_array_equal(decode(path, levels=Levels(num_bands=4)), image)
    matte = write_tiff(tmp_path / "b.tif", image.astype(np.uint16), photometric=2, extra=[2])
    assert decode_raw(matte.read_bytes(), matte).shape == (HEIGHT, WIDTH, 3)


def test_other_bands_than_the_recipe_expects_are_told(tmp_path):
    path = write_tiff(tmp_path / "a.tif", numbers(5))
    for wanted in (1, 3, 4):
        with pytest.raises(ValueError, match=rf"a\.tif has 5 bands, but the recipe expects {wanted}; give data\.mean"):
            decode(path, levels=Levels(num_bands=wanted))
    Image.new("RGB", (4, 3)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png has 3 bands, but the recipe expects 1;"):
        decode(tmp_path / "b.png", levels=Levels(num_bands=1))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("compression", [1, DEFLATE, LZW])
def test_a_tiff_that_is_cut_off_is_named(tmp_path, share, compression):
    path = write_tiff(tmp_path / "a.tif", numbers(5), compression=compression)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"the image .*a\.tif .*restore or remove it"):
        decode(path, levels=Levels(num_bands=5))


def test_a_tiff_may_state_no_absurd_size(tmp_path):
    path = write_tiff(tmp_path / "a.tif", numbers(5), height=900_000, width=900_000)
    with pytest.raises(ValueError, match=r"a\.tif is too large to be opened: its .* 10 bytes in a pixel, .*; cut it"):
        probe(path)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i2", "f2", "f4", ">f8", "?"])
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 6)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_an_image(tmp_path, dtype, shape, order):
    array = (numbers(1, "u1", shape).reshape(*shape, 1)[..., 0] % 90).astype(dtype) if len(shape) == 2 else None
    array = numbers(shape[-1], "u1", shape[:2]).astype(dtype) if array is None else array
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    found = decode_raw((tmp_path / "a.npy").read_bytes(), tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array.reshape(HEIGHT, WIDTH, -1))
    assert found.dtype.isnative
    bits = 1 if dtype == "?" else 8 * array.itemsize
    assert probe(tmp_path / "a.npy") == Header((HEIGHT, WIDTH), (HEIGHT, WIDTH), 1, bits, found.shape[2], "NPY")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(5), r"has the shape \(5,\), but expected are h x w or h x w x bands"),
        (np.zeros((2, 3, 4, 5)), "has the shape"),
        (np.zeros((0, 4)), "has the shape"),
        (np.zeros((5, 70, 80)), r"with its bands in front; save np\.moveaxis\(array, 0, 2\)"),
        (np.zeros((3, 4), np.complex64), "holds complex64, but expected are whole or floating-point numbers"),
        (np.array([[{}]]), "holds object"),
    ],
)
def test_an_array_that_is_no_image_is_told(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"a\.npy .*{reason}"):
        probe(tmp_path / "a.npy")


def test_an_array_that_is_cut_off_is_told_by_its_header(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 9)))
    whole = (tmp_path / "a.npy").read_bytes()
    for length in (7, 60, len(whole) - 1):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.npy (is cut off|has no readable header)"):
            probe(tmp_path / "a.npy")


def write_png(path, image, filters):
    """A PNG of 16 bits, each row with one of some filters."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, bands = image.shape
    plain, step = image.astype(">u2").view(np.uint8).reshape(height, -1).astype(int), 2 * bands
    rows = []
    for y, row in enumerate(plain):
        above = plain[y - 1] if y else np.zeros_like(row)
        left, corner = (np.concatenate([np.zeros(step, int), one[:-step]]) for one in (row, above))
        near = np.abs(np.stack([above - corner, left - corner, left + above - 2 * corner]))
        paeth = np.stack([left, above, corner])[near.argmin(axis=0), np.arange(len(row))]
        kind = filters[y % len(filters)]
        guess = [np.zeros_like(row), left, above, (left + above) // 2, paeth][kind]
        rows.append(bytes([kind]) + ((row - guess) % 256).astype(np.uint8).tobytes())
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    data = zlib.compress(b"".join(rows))
    body = chunk(b"IHDR", head) + chunk(b"IDAT", data[:50]) + chunk(b"IDAT", data[50:]) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("bands", [2, 3, 4])
@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 3, 2, 1, 0]])
def test_a_png_of_16_bits_and_several_bands_keeps_every_number(tmp_path, bands, filters):
    image = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, bands)).astype(np.uint16)
    path = write_png(tmp_path / "a.png", image, filters)
    with Image.open(path) as theirs:  # its upper bytes, which is all that Pillow gives, and of gray the gray alone
        np.testing.assert_array_equal(
            np.asarray(theirs.convert("L" if bands == 2 else theirs.mode)),
            np.squeeze(image[..., : 1 if bands == 2 else bands] >> 8),
        )
    kept = 1 if bands == 2 else 3
    np.testing.assert_array_equal(decode_raw(path.read_bytes(), path), image[..., :kept])
    np.testing.assert_allclose(decode(path), np.repeat(image[..., :kept] / 257, 3 // kept, axis=2), rtol=1e-6)
    assert (probe(path).bits, probe(path).bands) == (16, bands)


def test_a_png_of_16_bits_that_is_cut_off_is_named(tmp_path):
    path = write_png(tmp_path / "a.png", numbers(3), [4])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded .*; restore or remove it"):
        decode(path)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (Levels(num_bands=2), [[0, 0], [1, 65535 / 257]]),
        (Levels("fixed", ranges=((0, 510),), num_bands=2), [[0, 0], [128.5, 255]]),
        (Levels("fixed", ranges=((57, 457), (0, 65535 * 2)), num_bands=2), [[0, 0], [127.5, 127.5]]),
        (Levels("percentiles", (0, 100), num_bands=2), [[0, 0], [255, 255]]),
    ],
)
def test_numbers_become_levels_as_the_setting_says(levels, expected):
    image = np.array([[[0, 0], [257, 65535]]], np.uint16)
    found = to_levels(image, levels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_bytes_stay_bytes_and_what_is_no_number_is_level_0():
    image = numbers(3, "u1")
    assert to_levels(image, Levels()) is image
    odd = np.array([[[np.nan], [np.inf], [-np.inf], [0.5]]], np.float32)
    assert to_levels(odd, Levels("fixed", ranges=((0, 1),), num_bands=1)).ravel().tolist() == [0, 255, 0, 127.5]
    assert to_levels(odd, Levels("percentiles", num_bands=1)).ravel().tolist() == [0, 255, 0, 0]
    with pytest.raises(ValueError, match=r"floating-point numbers, whose range no type tells; set data\.levels=fixed"):
        to_levels(odd, Levels(num_bands=1))


def test_percentiles_of_8_bits_are_stretched_too(tmp_path):
    dim = (numbers(3, "u1") // 10).astype(np.uint8)
    Image.fromarray(dim).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", levels=Levels("percentiles", (0, 100)))
    assert (found.dtype, found.min(), found.max()) == (np.float32, 0, 255)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_large_images_are_reduced_to_means_of_blocks(dtype):
    image = numbers(2, dtype, (7, 11))
    found = reduced(image, 3)
    assert (found.shape, found.dtype) == ((3, 4, 2), np.dtype(dtype))
    tolerance = 1e-3 if dtype == "f4" else 0.51
    assert abs(found[0, 0, 1] - image[:3, :3, 1].mean()) <= tolerance
    assert abs(float(found[2, 3, 0]) - image[6:, 9:, 0].mean()) <= tolerance
    assert reduced(image, 1) is image


@pytest.mark.parametrize(("bands", "dtype"), [(3, "u2"), (5, "u2"), (5, "u1")])
def test_max_rowsize_bounds_what_is_handed_on(tmp_path, bands, dtype):
    np.save(tmp_path / "a.npy", numbers(bands, dtype, (700, 900)))
    levels = decode(tmp_path / "a.npy", (700, 900), max_rowsize=1, levels=Levels(num_bands=bands))
    assert levels.nbytes <= 1 << 20
    assert 4 * levels.nbytes > 1 << 20


def test_pages_of_a_deep_tiff_are_images_of_their_own(tmp_path):
    frames = [Image.fromarray(numbers(1)[..., 0] + np.uint16(100 * number)) for number in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    levels = Levels("fixed", ranges=((0, 255),), num_bands=1)
    with open_file(tmp_path / "a.tif") as file:
        found = list(pages(file, tmp_path / "a.tif", Oddities(), levels=levels))
    assert [page.number for page, _ in found] == [1, 2, 3]
    for (_, image), frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(frame).clip(0, 255))
    assert probe(tmp_path / "a.tif").has_pages


def test_pictures_of_any_image_are_rgb_and_near_duplicates_are_found_among_them(tmp_path):
    image = np.repeat(np.repeat(numbers(5, "u2", (8, 8)), 8, 0), 8, 1)
    np.save(tmp_path / "a.npy", image)
    write_tiff(tmp_path / "b.tif", image)
    np.save(tmp_path / "c.npy", numbers(1, "f4", (64, 64)))
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY")
    paths = sorted(tmp_path.iterdir())
    assert [decode_picture(path).shape for path in paths[:3]] == [(64, 64, 3)] * 3
    assert near_duplicates(paths).tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_part_of_a_deep_tiff_of_many_bands_is_read_by_itself(tmp_path, planar, tile):
    image = numbers(5, size=(50, 70))
    path = write_tiff(tmp_path / "a.tif", image, planar=planar, tile=tile, compression=LZW, predictor=2)
    levels = Levels("fixed", ranges=((0, 255),), num_bands=5)
    found = read_window(path, (20, 18, 41, 35), (50, 70), partial(decode_bytes, max_rowsize=None, levels=levels))
    np.testing.assert_array_equal(found, image[18:35, 20:41].clip(0, 255))
