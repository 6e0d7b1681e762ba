"""A small data set of shapes."""

import pytest

from maskrcnn.data.formats import coco
from maskrcnn.data.shapes import generate


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    folder = generate(tmp_path_factory.mktemp("bench") / "shapes", num_train=5, num_val=3, side=64)
    return coco.read(folder / "annotations" / "instances_train2017.json", folder / "train2017")
