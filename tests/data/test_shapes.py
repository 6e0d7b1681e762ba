import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.shapes import CATEGORIES, draw_scene, generate
from maskrcnn.data.shapes.dice import Dice
from maskrcnn.data.shapes.geometry import Shape, distance, grid, overlap, window
from maskrcnn.masks import bitmap_from_counts, counts_from_string

NUM_TRAIN, NUM_VAL = 40, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=NUM_TRAIN, num_val=NUM_VAL, seed=0)


@pytest.fixture(scope="module")
def train(folder):
    return json.loads((folder / "annotations" / "instances_train2017.json").read_text())


def test_folder_has_the_layout_of_coco2017(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["annotations", "train2017", "val2017"]
    assert len(list((folder / "train2017").iterdir())) == NUM_TRAIN
    assert len(list((folder / "val2017").iterdir())) == NUM_VAL


def test_same_pixels_and_json_on_every_machine(train):
    scenes = [draw_scene(0, 1, index) for index in range(4)]
    pixels = hashlib.sha256(b"".join(scene.pixels.tobytes() for scene in scenes)).hexdigest()
    text = hashlib.sha256(json.dumps(train).encode()).hexdigest()
    assert pixels[:16] == "835f8bc49157898c"
    assert text[:16] == "fbd76450e74c371c"


def test_an_image_does_not_depend_on_how_many_others_there_are():
    np.testing.assert_array_equal(draw_scene(0, 0, 7).pixels, draw_scene(0, 0, 7).pixels)
    assert (draw_scene(0, 0, 7).pixels.shape != draw_scene(0, 1, 7).pixels.shape) or (
        draw_scene(0, 0, 7).pixels != draw_scene(0, 1, 7).pixels
    ).any()


def test_pictures_have_the_size_and_name_the_annotations_give(folder, train):
    for image in train["images"]:
        with Image.open(folder / "train2017" / image["file_name"]) as picture:
            assert (picture.height, picture.width, picture.mode) == (image["height"], image["width"], "RGB")
    shapes = Counter(np.sign(image["height"] - image["width"]) for image in train["images"])
    assert min(shapes[1], shapes[-1]) > 0  # portrait and landscape


def test_ids_are_unique_across_the_data_set_and_categories_have_gaps(folder, train):
    val = json.loads((folder / "annotations" / "instances_val2017.json").read_text())
    ids = [image["id"] for image in train["images"] + val["images"]]
    assert len(set(ids)) == NUM_TRAIN + NUM_VAL
    assert {category["id"]: category["name"] for category in train["categories"]} == CATEGORIES
    assert list(CATEGORIES) != list(range(1, len(CATEGORIES) + 1))


def test_every_form_of_annotation_occurs(train):
    forms = Counter(_form(annotation) for annotation in train["annotations"])
    assert set(forms) == {"polygon", "polygons", "compressed", "plain"}
    assert all(annotation["iscrowd"] == (_form(annotation) == "plain") for annotation in train["annotations"])
    assert len({annotation["image_id"] for annotation in train["annotations"]}) < NUM_TRAIN  # some images are empty


def test_annotations_say_exactly_which_pixels_an_object_owns(train):
    mask_api = pytest.importorskip("pycocotools.mask")
    sizes = {image["id"]: (image["height"], image["width"]) for image in train["images"]}
    claimed = {image_id: np.zeros(size, int) for image_id, size in sizes.items()}
    for annotation in train["annotations"]:
        height, width = sizes[annotation["image_id"]]
        held = annotation["segmentation"]
        if isinstance(held, list):
            mask = mask_api.decode(mask_api.merge(mask_api.frPyObjects(held, height, width))).astype(bool)
        else:
            counts = held["counts"]
            mask = bitmap_from_counts(counts_from_string(counts) if isinstance(counts, str) else counts, height, width)
        assert mask.sum() == annotation["area"]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y, box_width, box_height = annotation["bbox"]
        assert (x, y, x + box_width, y + box_height) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        claimed[annotation["image_id"]] += mask
    assert max(claims.max() for claims in claimed.values()) == 1  # later objects cover earlier ones


def test_objects_that_are_hardly_visible_are_neither_drawn_nor_annotated(train):
    assert min(annotation["area"] for annotation in train["annotations"]) >= 30


def test_the_same_data_set_is_reused_and_another_is_refused(folder):
    before = (folder / "annotations" / "instances_val2017.json").stat().st_mtime_ns
    assert generate(folder, num_train=NUM_TRAIN, num_val=NUM_VAL, seed=0) == folder
    assert (folder / "annotations" / "instances_val2017.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"seed=0.*asked for.*seed=4"):
        generate(folder, num_train=NUM_TRAIN, num_val=NUM_VAL, seed=4)


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(FileExistsError, match="files of another kind"):
        generate(tmp_path, num_train=1, num_val=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled_and_never_replaced_which_windows_refuses(tmp_path, monkeypatch):
    rename, folder = Path.rename, tmp_path / "shapes"
    folder.mkdir()

    def as_on_windows(draft, target):
        assert not target.exists()
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", as_on_windows)
    assert generate(folder, num_train=1, num_val=0, side=64) == folder
    assert len(list((folder / "train2017").iterdir())) == 1


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("maskrcnn.data.shapes.files._annotations", fail)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "shapes", num_train=1, num_val=0)
    assert list(tmp_path.iterdir()) == []


def test_settings_that_cannot_be_drawn_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"side >= 64.*received side=8"):
        generate(tmp_path / "shapes", side=8)


def test_a_disc_covers_the_pixels_whose_centres_are_inside():
    disc = Shape("disc", (4.0, 2.5), 2.0, (1.0, 0.0), 1.0, 0)
    inside = distance(disc, *grid((0, 0, 5, 8))) <= 0
    expected = np.zeros((5, 8), bool)
    expected[1:4, 2:6] = True  # (2.5, 1.5) is sqrt(2.25 + 1) away; (3.5, 0.5) is sqrt(0.25 + 4)
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize("outline", ["disc", "square", "triangle", "star", "ring", "bar"])
def test_a_window_holds_its_whole_shape(outline):
    shape = Shape(outline, (3.3, -2.7), 20.0, (0.6, 0.8), 1.2, 0)
    inside = distance(shape, *grid(window(shape))) <= 0
    assert inside.any()
    assert inside[1:-1, 1:-1].sum() == inside.sum()


def test_a_shape_outside_the_image_meets_no_pixel():
    shape = Shape("disc", (-50.0, 10.0), 5.0, (1.0, 0.0), 1.0, 0)
    target, source = overlap(window(shape), 30, 40)
    assert np.zeros((30, 40))[target].size == 0
    assert distance(shape, *grid(window(shape)))[source].size == 0


def test_dice_are_the_raw_words_of_pcg64():
    words = np.random.PCG64([5, 6]).random_raw(7)
    expected = (words >> np.uint64(11)) / 2.0**53
    dice = Dice(5, 6)
    assert dice.uniform() == expected[0]
    np.testing.assert_array_equal(dice.plane(2, 3), expected[1:].reshape(2, 3))


def _form(annotation):
    held = annotation["segmentation"]
    if isinstance(held, list):
        return "polygon" if len(held) == 1 else "polygons"
    return "compressed" if isinstance(held["counts"], str) else "plain"
