"""Objects of turned images: drawn on stored pixels, written for tools that show the image upright."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.formats.upright import upright
from maskrcnn.data.header import EXIF_ORIENTATION, UPRIGHT
from maskrcnn.masks import bitmap_from_rings, rings_from_polygons

MASK = np.zeros((6, 10), bool)
MASK[1:4, 2:9], MASK[2, 4:6] = True, False
POLYGON = [1, 1, 7, 1, 7, 5]


def turned(root, orientation, size=(6, 10)):
    """A data set of one photo that a phone turned; its objects have its stored pixels as their frame."""
    root.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.new("RGB", (10, 6)).save(root / "a.jpg", exif=exif)
    builder = Builder(root, root, Faults(), ["cat"])
    image = builder.add_image("a.jpg", size)
    builder.add_mask(image, "cat", MASK)
    builder.add_object(image, "cat", rings_from_polygons([POLYGON]))
    return builder.dataset()


def bitmap(data, index):
    height, width = data.sizes[0].tolist()
    return bitmap_from_rings(data.outline(index), (0, 0, height, width))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_and_boxes_turn_as_the_image_does(tmp_path, orientation):
    data, losses = turned(tmp_path, orientation), Losses("x")
    found = upright(data, losses)
    assert found.sizes.tolist() == [[10, 6]]
    for index in range(2):
        expected = Image.fromarray(bitmap(data, index)).transpose(UPRIGHT[orientation])
        assert (bitmap(found, index) != np.array(expected)).sum() <= (0 if index == 0 else 3)  # ties of a slanted edge
    rows, columns = np.nonzero(bitmap(found, 0))
    assert found.boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert found.flags.tolist() == [Flag.RUN_LENGTHS, 0]
    assert losses.sentences()[0].startswith("1 image has objects drawn before the EXIF rotation")


@pytest.mark.parametrize(("orientation", "size"), [(1, (6, 10)), (3, (6, 10)), (6, (10, 6)), (6, (7, 7))])
def test_other_images_stay_as_they_are(tmp_path, orientation, size):
    data = turned(tmp_path, orientation, size)
    assert upright(data, Losses("x")) is data


@pytest.mark.parametrize("name", ["yolo", "labelme", "cvat", "via"])
def test_every_tool_gets_the_objects_of_the_image_that_it_shows(tmp_path, name):
    data = turned(tmp_path / "one", 6)
    FORMATS[name].write({"train": data}, tmp_path / "two")
    [source] = FORMATS[name].find(Folder(tmp_path / "two"))
    again = FORMATS[name].read(source, Faults())
    assert again.sizes.tolist() == [[10, 6]]
    np.testing.assert_array_equal(bitmap(again, 0), np.rot90(MASK, -1))
