"""What was found in images, as a data set for a labelling tool."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.config import Recipe
from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.formats.source import Folder
from maskrcnn.instances import Instances
from maskrcnn.masks import rings_from_bitmap
from maskrcnn.predict import Predictor
from maskrcnn.proposals import correctable, write_proposals

FORMS = ["coco", "yolo", "labelme", "cvat", "via"]


class TwoObjects(Predictor):
    """Finds a dog and a cat in each image, unless it is black."""

    def __init__(self):
        object.__setattr__(self, "recipe", Recipe(name="x", classes=("cat", "dog", "eel"), category_ids=(3, 7, 9)))

    def predict_levels(self, images, score=0.5):
        return [self._found(image) if image.max() else self._found(image)[:0] for image in images]

    def _found(self, image):
        boxes = np.array([[2, 3, 22, 15], [20, 10, 38, 23]], np.float32)
        scores = np.array([0.75, 0.5], np.float32)
        masks = torch.ones(2, 28, 28)
        return Instances(boxes, np.array([2, 1]), ["dog", "cat"], scores, masks, image.shape[:2], (3, 7, 9), image)


@pytest.fixture
def photos(tmp_path):
    """A photo, one held upright, a black one, a stack of two pages, one that is cut off, one in a folder."""
    folder = tmp_path / "photos"
    (folder / "day").mkdir(parents=True)
    image = Image.new("RGB", (40, 24), (90, 20, 30))
    image.save(folder / "a.jpg")
    image.save(folder / "b.tif", save_all=True, append_images=[image])
    Image.new("RGB", (40, 24)).save(folder / "c.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 40), (90, 20, 30)).save(folder / "day" / "a.jpg", exif=exif)
    (folder / "d.png").write_bytes(b"")
    return folder


def read(dest, form):
    (source,) = FORMATS[form].find(Folder(dest))
    return FORMATS[form].read(source, Faults())


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_is_written_that_is_recognised_and_holds_what_was_found(photos, tmp_path, form):
    done = write_proposals(TwoObjects(), [photos], tmp_path / "out", form, recursive=True)
    assert (done.num_images, done.num_objects) == (5, 8)
    assert "d.png is empty" in done.failures[0]
    assert "2 images are written as PNG" in done.remarks[0]
    data = read(tmp_path / "out", form)
    names = dict(zip(data.file_names, data.sizes.tolist(), strict=True))
    assert sorted(name.rpartition("images/")[2].removeprefix("train/") for name in names) == [
        "a.jpg", "b-page-1.png", "b-page-2.png", "c.png", "day/a.jpg",
    ]  # fmt: skip
    assert set(map(tuple, names.values())) == {(24, 40)}
    assert np.diff(data.first_object).tolist().count(2) == 4
    first = data.objects(list(names).index(next(name for name in names if name.endswith("a.jpg"))))
    found = [data.category_names[label - 1] for label in data.labels[first]]
    order = np.argsort(found).tolist()
    assert [found[index] for index in order] == ["cat", "dog"]
    boxes = data.boxes[first][order]
    np.testing.assert_allclose(boxes, [[20, 10, 38, 23], [2, 3, 22, 15]], atol=0.6)


def test_coco_keeps_ids_of_categories_scores_areas_and_polygons(photos, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    write_proposals(TwoObjects(), [photos / "a.jpg"], tmp_path / "out", "coco")
    found = coco.COCO(str(tmp_path / "out" / "annotations" / "instances.json"))
    assert {row["id"]: row["name"] for row in found.loadCats(found.getCatIds())} == {3: "cat", 7: "dog", 9: "eel"}
    dog, cat = found.loadAnns(found.getAnnIds())
    assert (dog["category_id"], cat["category_id"], dog["score"]) == (7, 3, 0.75)
    mask = found.annToMask(dog)
    assert (mask[3:15, 2:22].all(), mask.sum(), dog["area"]) == (True, 240, 240)
    assert len(dog["segmentation"][0]) == 8


def test_photos_are_the_same_files(photos, tmp_path):
    write_proposals(TwoObjects(), [photos / "a.jpg"], tmp_path / "out", "labelme")
    assert (tmp_path / "out" / "a.jpg").read_bytes() == (photos / "a.jpg").read_bytes()
    assert not (tmp_path / "out" / "a.jpg").is_symlink()


def test_photos_of_a_tar_are_the_same_files(photos, tmp_path):
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(photos / "a.jpg", "a.jpg")
    write_proposals(TwoObjects(), [tmp_path / "some.tar"], tmp_path / "out", "coco")
    (copy,) = (tmp_path / "out").rglob("*.jpg")
    assert copy.read_bytes() == (photos / "a.jpg").read_bytes()


def test_a_photo_under_another_ending_gets_the_one_that_tools_expect(photos, tmp_path):
    for name in ("x.jfif", "y.dat", "z.png"):
        (photos / name).write_bytes((photos / "a.jpg").read_bytes())
    write_proposals(TwoObjects(), [photos / name for name in ("x.jfif", "y.dat", "z.png")], tmp_path / "out", "via")
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[1:] == ["x.jpg", "y.jpg", "z.png"]


def test_a_mask_with_holes_stays_a_mask():
    mask = np.zeros((20, 30), bool)
    mask[3:17, 4:24] = True
    outline, flags = correctable(rings_from_bitmap(mask))
    assert (len(outline.points), flags) == (4, Flag(0))
    mask[8:11, 9:14] = False
    outline, flags = correctable(rings_from_bitmap(mask))
    assert (len(outline.points), flags) == (8, Flag.RUN_LENGTHS)


def test_what_cannot_be_written_is_said(photos, tmp_path):
    with pytest.raises(ValueError, match=r"photos is not empty; give a new folder"):
        write_proposals(TwoObjects(), [photos], photos, "coco")
    with pytest.raises(ValueError, match=r"no image could be read, .*d\.png is empty"):
        write_proposals(TwoObjects(), [photos / "d.png"], tmp_path / "out", "coco")
    done = write_proposals(TwoObjects(), [photos / "c.png"], tmp_path / "black", "coco")
    assert (done.num_images, done.num_objects) == (1, 0)
