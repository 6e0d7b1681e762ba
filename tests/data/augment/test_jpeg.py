import io

import numpy as np
from PIL import Image

from maskrcnn.data.augment.jpeg import UNCHANGED, compress, qualities


def ramp():
    rows, columns = np.mgrid[:40, :56]
    return np.stack([rows * 6, columns * 4, 255 - rows * 3], 2).astype(np.uint8)


def test_one_half_of_the_images_is_compressed_with_any_quality_from_the_lowest():
    drawn = qualities(np.arange(20000) * 7919, 60)
    compressed = drawn[drawn != UNCHANGED]
    assert abs(len(compressed) / len(drawn) - 0.5) < 0.01
    numbers, counts = np.unique(compressed, return_counts=True)
    assert numbers.tolist() == list(range(60, 96))
    assert counts.min() > 200
    assert np.array_equal(qualities(np.arange(20000) * 7919, 60)[5:9], drawn[5:9])


def test_a_quality_of_100_is_none_and_one_above_the_best_is_that_alone():
    assert qualities(np.arange(4), 100) is None
    assert set(qualities(np.arange(50), 98).tolist()) == {98, 100}


def test_compressing_is_what_pillow_does_with_the_same_quality():
    image = ramp()
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40, subsampling="4:2:0")
    expected = np.asarray(Image.open(file)).astype(int)
    found = compress(image, 40)
    assert found.shape == image.shape
    assert np.abs(found.astype(int) - expected).mean() < 1, "libraries enlarge colours each in its own way"
    assert 1 < np.abs(found.astype(int) - image).mean() < 12


def test_what_has_no_jpeg_and_what_is_left_alone_comes_back():
    for image in (ramp(), np.zeros((4, 5, 5), np.uint8), ramp().astype(np.float32)):
        quality = UNCHANGED if image.dtype == np.uint8 and image.shape[2] == 3 else 40
        assert compress(image, quality) is image


def test_a_view_of_an_array_is_compressed_as_its_copy():
    assert np.array_equal(compress(ramp()[::-1, ::2], 50), compress(ramp()[::-1, ::2].copy(), 50))
