from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from maskrcnn.data.decode import UPRIGHT, decode

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
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    values = np.array([[0, 257, 65535], [128, 129, 32768]], np.uint16)
    assert decode(save(tmp_path / name, values))[..., 2].tolist() == [[0, 1, 255], [0, 1, 128]]


def test_floating_point_pictures_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"a\.tif cannot be decoded .*save it with 8 or 16 bits"):
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
    with pytest.raises(ValueError, match=r"a\.png is too large to be opened .* cut it into tiles"):
        decode(path)
