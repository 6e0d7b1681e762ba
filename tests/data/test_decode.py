import struct
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from maskrcnn.data import image_file
from maskrcnn.data.decode import decode, probe, refuse_broken
from maskrcnn.data.header import UPRIGHT, Header

HEIGHT, WIDTH = 24, 40


def gradient(height=HEIGHT, width=WIDTH):
    """Red grows to the right, green downwards."""
    row, column = np.mgrid[:height, :width]
    return np.stack([column * 255 // width, row * 255 // height, np.full_like(row, 90)], -1).astype(np.uint8)


def save(path, array=None, image=None, **options):
    (image or Image.fromarray(gradient() if array is None else array)).save(path, **options)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 95, "subsampling": 0},
        {"quality": 40, "subsampling": 1},
        {"quality": 75, "subsampling": 2},
        {"quality": 75, "progressive": True},
        {"keep_rgb": True},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_decodes_to_the_same_bytes_as_with_pillow(tmp_path, options, mode):
    noise = np.random.default_rng(0).integers(0, 256, (37, 51, 3), np.uint8)
    path = save(tmp_path / "a.jpg", image=Image.fromarray(noise).convert(mode), **options)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90, "optimize": True},
        {"quality": 60, "restart_marker_rows": 1},
        {"quality": 85, "progressive": True, "subsampling": 0},
        {"quality": 85, "comment": "a comment", "dpi": (300, 300), "icc_profile": b"profile"},
        {"quality": 1},
        {"quality": 100},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 17), (16, 9)])
def test_a_jpeg_of_any_kind_and_size_decodes_as_with_pillow(tmp_path, options, mode, height, width):
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    path = save(tmp_path / "a.jpg", image=Image.fromarray(noise).convert(mode), **options)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("orientation", [0, 1, *UPRIGHT])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_turned_jpeg_decodes_as_pillow_turns_it(tmp_path, orientation, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", image=Image.fromarray(gradient()).convert(mode), exif=exif, quality=80)
    np.testing.assert_array_equal(decode(path), np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")))


def test_real_jpegs_decode_to_the_same_bytes_as_with_pillow(shared_data):
    for path in sorted((shared_data / "coco_mini" / "val2017").glob("*.jpg"))[:20]:
        np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("orientation", [1, *UPRIGHT])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_exif_orientation_is_applied_once(tmp_path, orientation, name):
    """The file holds what a camera held this way would store; decoding gives the upright scene back."""
    inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = Image.fromarray(gradient())
    if orientation in UPRIGHT:
        stored = stored.transpose(inverse.get(orientation, UPRIGHT[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, image=stored, exif=exif)
    pixels = decode(path, (HEIGHT, WIDTH))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - gradient()).max() <= (0 if name == "a.png" else 60)
    assert pixels[2, -3, 0] > 200
    assert pixels[-3, 2, 1] > 200


def test_annotations_of_the_unrotated_picture_get_the_unrotated_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", exif=exif)
    assert decode(path).shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(decode(path, (HEIGHT, WIDTH)), gradient())
    assert decode(path, (WIDTH, HEIGHT)).shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_exif_does_not_know_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(path, (HEIGHT, WIDTH)), gradient())
    with pytest.raises(ValueError, match=r"a\.png has \(height, width\) \(24, 40\)"):
        decode(path, (WIDTH, HEIGHT))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_size_that_contradicts_the_annotations_is_refused(tmp_path, name):
    path = save(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} has \(height, width\) \(24, 40\) but .* say \(40, 24\)"):
        decode(path, (WIDTH, HEIGHT))


def test_gray_palette_alpha_and_bilevel_pictures_become_rgb(tmp_path):
    gray = gradient()[..., 0]
    np.testing.assert_array_equal(decode(save(tmp_path / "l.png", gray)), np.repeat(gray[..., None], 3, -1))
    alpha = np.dstack([gradient(), np.full((HEIGHT, WIDTH), 10, np.uint8)])
    np.testing.assert_array_equal(decode(save(tmp_path / "rgba.png", alpha)), gradient())
    both = np.dstack([gray, np.full((HEIGHT, WIDTH), 10, np.uint8)])
    np.testing.assert_array_equal(decode(save(tmp_path / "la.png", both)), np.repeat(gray[..., None], 3, -1))
    palette = Image.fromarray(gradient()).quantize(16)
    path = save(tmp_path / "p.png", image=palette, transparency=bytes(range(16)))
    np.testing.assert_array_equal(decode(path), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(gray > 100)
    np.testing.assert_array_equal(decode(save(tmp_path / "1.png", image=bilevel))[..., 1], (gray > 100) * 255)


def test_cmyk_jpegs_become_rgb(tmp_path):
    flat = Image.new("RGB", (WIDTH, HEIGHT), (200, 120, 40))
    pixels = decode(save(tmp_path / "a.jpg", image=flat.convert("CMYK"), quality=95))
    assert np.abs(pixels.astype(int) - (200, 120, 40)).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_become_levels_with_what_lies_between_whole_ones(tmp_path, name):
    values = np.array([[0, 257, 65535], [128, 129, 32768]], np.uint16)
    levels = decode(save(tmp_path / name, values))
    assert (levels.shape, levels.dtype) == ((2, 3, 3), np.float32)
    np.testing.assert_allclose(levels[..., 2], [[0, 1, 255], [128 / 257, 129 / 257, 32768 / 257]], rtol=1e-6)


def test_floating_point_pictures_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"a\.tif cannot be decoded: .*floating-point .*data.levels=fixed, with"):
        decode(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_off_file_is_named_in_one_sentence(tmp_path, name, share):
    whole = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(whole, {"a.jpg": "JPEG", "a.png": "PNG", "a.webp": "WEBP"}[name])
    path = tmp_path / name
    path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    with pytest.raises(ValueError, match=rf"{name} .*restore or remove it"):
        decode(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.jpg does not exist"):
        decode(tmp_path / "no.jpg")


@pytest.mark.parametrize(("name", "tolerance"), [("a.jpg", 12), ("a.png", 1)])
@pytest.mark.parametrize(("height", "width", "reduced"), [(700, 900, (350, 450)), (1701, 1601, (567, 534))])
def test_a_huge_picture_is_reduced_by_a_whole_factor(tmp_path, name, tolerance, height, width, reduced):
    path = save(tmp_path / name, gradient(height, width))
    pixels = decode(path, (height, width), max_rowsize=1)
    assert pixels.nbytes <= 1 << 20
    if name == "a.png":
        assert pixels.shape[:2] == reduced
    expected = gradient(*pixels.shape[:2])
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance
    assert decode(path, (height, width), max_rowsize=None).shape == (height, width, 3)


def test_a_picture_too_large_to_be_opened_is_not_called_broken(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    with pytest.raises(ValueError, match=r"a\.png is too large to be opened.* cut it into tiles"):
        decode(path)


@pytest.mark.parametrize(
    ("name", "mode", "bits", "bands", "format"),
    [
        ("a.jpg", "RGB", 8, 3, "JPEG"),
        ("a.jpg", "L", 8, 1, "JPEG"),
        ("a.jpg", "CMYK", 8, 4, "JPEG"),
        ("a.png", "RGBA", 8, 4, "PNG"),
        ("a.png", "P", 8, 3, "PNG"),
        ("a.png", "1", 1, 1, "PNG"),
        ("a.png", "I;16", 16, 1, "PNG"),
        ("a.pgm", "I;16", 16, 1, "PPM"),
        ("a.tif", "I;16", 16, 1, "TIFF"),
        ("a.tif", "I", 32, 1, "TIFF"),
        ("a.tif", "F", 32, 1, "TIFF"),
        ("a.jp2", "I;16", 16, 1, "JPEG2000"),
        ("a.webp", "RGB", 8, 3, "WEBP"),
        ("a.avif", "RGB", 8, 3, "AVIF"),
        ("a.tga", "RGB", 8, 3, "TGA"),
        ("a.gif", "P", 8, 3, "GIF"),
        ("a.bmp", "RGB", 8, 3, "BMP"),
    ],
)
def test_a_header_tells_size_bits_bands_and_format(tmp_path, name, mode, bits, bands, format):
    path = save(tmp_path / name, image=Image.new(mode, (WIDTH, HEIGHT)))
    assert probe(path) == Header((HEIGHT, WIDTH), (HEIGHT, WIDTH), 1, bits, bands, format)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_header_tells_the_size_that_decoding_gives(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = probe(save(tmp_path / "a.jpg", exif=exif))
    assert (header.stored_size, header.orientation) == ((HEIGHT, WIDTH), orientation)
    assert header.size == decode(tmp_path / "a.jpg").shape[:2]


def chunk(name, data=b""):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def stated(height, width):
    """A PNG that states a size and has next to no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND")


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((150_000_000, 1), "states a .* of .150000000, 1., but expected are 1 to 1000000 pixels"),
        ((1, 150_000_000), "states a .* of .1, 150000000."),
        ((9_000, 9_000), "states a .* of .9000, 9000., more than its 66 bytes can hold"),
        ((65_535, 65_535), "is too large to be opened.* cut it into tiles"),
        ((2**31 - 1, 2**31 - 1), "is too large to be opened"),
        ((0, 7), "is not of a known format"),
    ],
)
@pytest.mark.parametrize("look", [probe, decode])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_absurd_size_gives_one_sentence(tmp_path, size, reason, look):
    path = tmp_path / "a.png"
    path.write_bytes(stated(*size))
    with pytest.raises(ValueError, match=rf"the image .*a\.png {reason}"):
        look(path)


@pytest.mark.parametrize(
    ("side", "reason"), [(65_535, r"is too large to be opened"), (9_000, r"states .* of .9000, 9000., more than its")]
)
def test_a_jpeg_that_states_an_absurd_size_takes_no_room(tmp_path, side, reason):
    data = bytearray(save(tmp_path / "a.jpg").read_bytes())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = 2 * side.to_bytes(2, "big")
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.jpg {reason}"):
        decode(tmp_path / "a.jpg", max_rowsize=None)


@pytest.mark.parametrize(("name", "mode"), [("a.png", "1"), ("a.gif", "L"), ("a.jpg", "L"), ("b.jpg", "RGB")])
def test_a_large_flat_image_is_no_absurd_one(tmp_path, name, mode):
    options = {"optimize": True, "progressive": True} if "jpg" in name else {}
    path = save(tmp_path / name, image=Image.new(mode, (3000, 2500), 1), **options)
    assert decode(path).shape == (2500, 3000, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (bytes(3000), "begins with nothing but zeros"),
        (b"\n<!DOCTYPE html><html>", "is a web page, as a failed download leaves one"),
        (b"\xef\xbb\xbf<html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is text, maybe a server's answer"),
        (b'{"error": "gone"}', "is text, maybe a server's answer"),
        (b'<?xml version="1.0"?><svg width="4">', "is an SVG drawing, which has no pixels"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "fetch it with `git lfs pull`"),
        (b"/annex/objects/SHA256E-s3--1.jpg\n", "fetch it with `git annex get`"),
        (b"\x00\x05\x16\x07" + bytes(30), "holds what macOS notes beside an image"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not of a known format"),
        (b"hello", "is not of a known format or is cut off"),
    ],
)
@pytest.mark.parametrize("look", [probe, decode])
def test_what_is_no_image_is_called_what_it_is(tmp_path, content, reason, look):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"the image .*a\.jpg .*{reason}"):
        look(path)


def test_only_a_file_of_that_ending_is_taken_for_tga(tmp_path):
    whole = save(tmp_path / "a.tga").read_bytes()
    (tmp_path / "a.dat").write_bytes(whole)
    np.testing.assert_array_equal(decode(tmp_path / "a.tga"), gradient())
    with pytest.raises(ValueError, match=r"a\.dat is not of a known format"):
        decode(tmp_path / "a.dat")


def test_a_header_says_nothing_of_what_is_cut_off_after_it(tmp_path):
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-40])
    assert probe(path).size == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"a\.jpg cannot be decoded .*truncated"):
        refuse_broken(path)
    with pytest.raises(FileNotFoundError, match=r"no\.jpg does not exist"):
        probe(tmp_path / "no.jpg")


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.avif"])
def test_every_format_is_turned_once_and_gives_what_is_stored_on_request(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, exif=exif)
    expected = np.asarray(Image.fromarray(gradient()).transpose(UPRIGHT[orientation]))
    header = probe(path)
    assert (header.orientation, header.stored_size, header.size) == (orientation, (24, 40), expected.shape[:2])
    assert np.abs(decode(path).astype(int) - expected).mean() < 6
    if orientation >= 5:
        assert np.abs(decode(path, (24, 40)).astype(int) - gradient()).mean() < 6


def test_a_header_of_a_png_is_read_without_its_pixels_wherever_its_turn_stands(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    before, behind = save(tmp_path / "a.png", exif=exif), tmp_path / "b.png"
    data, turned = before.read_bytes(), chunk(b"eXIf", exif.tobytes()[6:])
    assert turned in data
    plain = data.replace(turned, b"").removesuffix(chunk(b"IEND"))
    behind.write_bytes(plain + chunk(b"tEXt", b"date:create\0today") + turned + chunk(b"IEND"))
    (tmp_path / "c.png").write_bytes(plain + chunk(b"tEXt", b"date:create\0today") + chunk(b"IEND"))
    assert [probe(tmp_path / name).orientation for name in ("a.png", "b.png", "c.png")] == [6, 6, 1]
    assert decode(behind).shape == (WIDTH, HEIGHT, 3)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    assert [probe(tmp_path / name).orientation for name in ("a.png", "c.png")] == [6, 1]


def test_heic_without_its_decoder_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(image_file, "find_spec", lambda name: None)
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(50))
    for look in (probe, decode):
        with pytest.raises(
            ValueError, match=r"IMG_1\.HEIC is HEIC, which needs a decoder; pip install 'maskrcnn\[heic\]'"
        ):
            look(path)


@pytest.mark.parametrize("orientation", [1, *UPRIGHT])
def test_heic_is_read_upright_where_its_decoder_is_installed(tmp_path, orientation):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.heic", exif=exif.tobytes(), quality=-1, format="HEIF")
    stored = Image.fromarray(gradient())
    expected = np.asarray(stored.transpose(UPRIGHT[orientation]) if orientation > 1 else stored)
    header = probe(path)
    assert (header.size, header.format, header.bits, header.bands) == (expected.shape[:2], "HEIF", 8, 3)
    assert np.abs(decode(path).astype(int) - expected).mean() < 6
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.heic .*restore or remove it"):
        decode(path)


def test_a_file_larger_than_any_image_is_refused_unread(tmp_path):
    save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(1 << 33)
    with pytest.raises(ValueError, match=r"a\.png has 8589934592 bytes, but an image has at most 2147483648"):
        decode(tmp_path / "a.png")


def test_a_folder_in_the_place_of_an_image_is_named(tmp_path):
    for door in (decode, probe):
        with pytest.raises(OSError, match=rf"the image {tmp_path} cannot be opened \("):
            door(tmp_path)
