"""Images as training sees them, in an album."""

import json
import re

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from maskrcnn.config import Augment, Data
from maskrcnn.data.formats import coco
from maskrcnn.data.oddities import Oddities
from maskrcnn.report.album import write_album
from maskrcnn.report.augmented import Draws

SETTINGS = Data(short_sides=(80,), max_side=160, mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0), flip=0.0)
RED = (200, 10, 30)


@pytest.fixture
def data(tmp_path):
    """Three black images of 40 x 60 pixels with a red rectangle on rows 10..29, columns 20..49."""
    for number in range(3):
        pixels = np.zeros((40, 60, 3), np.uint8)
        pixels[10:30, 20:50] = RED
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    ring = [20, 10, 50, 10, 50, 30, 20, 30]
    rows = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [20, 10, 30, 20], "iscrowd": 0, "segmentation": [ring]}
        for n in (1, 2, 3)
    ]
    images = [{"id": n, "file_name": f"{n - 1}.png", "height": 40, "width": 60} for n in (1, 2, 3)]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "brick"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    return coco.read(tmp_path / "all.json", tmp_path)


def with_augment(**pieces):
    return Data(
        **{name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__} | {"augment": Augment(**pieces)}
    )


def test_without_augmentation_an_image_is_seen_resized(data):
    shown = Draws(data, SETTINGS, 1).see(1, 0, Oddities())
    assert (shown.size, shown.pixels.shape) == ((80, 120), (80, 120, 3))
    assert shown.boxes.tolist() == [[40, 20, 100, 60]]
    assert shown.labels.tolist() == [1]
    assert shown.pixels[40, 70].tolist() == [*RED]
    expected = np.zeros((120, 120), bool)
    expected[20:60, 40:100] = True
    assert np.array_equal(shown.mask(0, 120.0, 120), expected)
    assert np.array_equal(shown.mask(0, 120.0, 60), expected[::2, ::2])


def test_the_bands_that_a_recipe_names_are_shown(data):
    settings = replace(SETTINGS, shown_bands=(3, 2, 1))
    assert Draws(data, settings, 1).see(1, 0, Oddities()).pixels[40, 70].tolist() == [*RED[::-1]]


def test_masks_lie_on_what_they_mask_however_an_image_is_turned(data):
    draws = Draws(data, with_augment(scale=(0.5, 2.0), angle=180.0, quarter_turns=True, flip_vertical=0.5), 6)
    seen = [draws.see(image, draw, Oddities()) for image in range(3) for draw in range(6)]
    assert len({shown.pixels.tobytes() for shown in seen}) > 12
    for shown in seen:
        height, width = shown.size
        drawn = np.zeros((height, width), bool)
        for item in range(len(shown.labels)):
            drawn |= shown.mask(item, max(shown.size), max(shown.size))[:height, :width]
        red = shown.pixels[..., 0] > 105
        assert (drawn & red).sum() >= 0.95 * (drawn | red).sum()


def test_what_is_pasted_hides_what_lies_below(data):
    shown = Draws(data, with_augment(copy_paste=1.0), 1).see(0, 0, Oddities())
    assert len(shown.labels) == 1
    assert shown.mask(0, 120.0, 120).sum() == 2400, "both lie at the same place: the lower one is hidden"


def test_an_album_of_draws_has_each_image_as_often(data, tmp_path):
    done = []
    (tmp_path / "2.png").write_bytes(b"no image")
    settings = with_augment(scale=(1.0, 1.5))
    album = write_album(
        data,
        [0, 1],
        tmp_path / "out",
        title="my",
        split="train",
        augmented=(settings, 3),
        tell=lambda *n: done.append(n),
    )
    page = album.page.read_text(encoding="utf-8")
    told = json.loads(re.search(r'id="album">(.*?)</script>', page, re.DOTALL)[1])["images"]
    assert [image["name"] for image in told] == [f"{image}.png ({draw})" for image in (0, 1) for draw in (1, 2, 3)]
    assert told[4]["file"] == "pictures/train-draw2-000001-1.jpg"
    assert "2 of 3 (train), as training sees each in its first 3 epochs" in page
    assert done[-1] == (6, 6)
    for image in told:
        if image["failure"]:
            assert "2.png" in image["failure"], "its partner in the batch cannot be read"
        else:
            assert image["size"] == [120, 80]
            [[label, small, medium, large]] = image["objects"]
            assert (label, small, medium + large) == (1, 0, 1)
            assert Image.open(tmp_path / "out" / image["file"]).size == (600, 400)
    assert sum(not image["failure"] for image in told) >= 2


def test_images_of_other_bands_are_shown_by_their_first(data):
    from maskrcnn.report.augmented import _pixels
    from maskrcnn.structures import ImageBatch, MicroBatch

    batch = MicroBatch(ImageBatch(torch.ones(1, 2, 4, 4), torch.tensor([[4.0, 4.0]])), None, torch.zeros(1))
    pixels = _pixels(batch, 0, Data(mean=(10.0, 20.0), std=(50.0, 60.0)))
    assert pixels[0, 0].tolist() == [60, 60, 60]
