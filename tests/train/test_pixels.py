"""What a run's images are measured for, and what a plan says of them."""

from functools import partial

import msgspec
import numpy as np
import pytest
from PIL import Image

from maskrcnn.cli.planning import make_plan
from maskrcnn.config import Augment, Backbone, Data, Recipe
from maskrcnn.data import measure
from maskrcnn.data.decode import decode, decode_raw
from maskrcnn.data.formats import coco
from maskrcnn.data.levels import levels_of
from maskrcnn.recipes import read_recipe
from maskrcnn.train.pixels import choose_pixels, with_measured
from tests.end_to_end.pixel_data import write_discs

RESNET = Backbone()
OPEN = Data(levels="fixed", mean=(), std=())


def as_png(scale, path, scene):
    Image.fromarray((scene * scale).astype(np.uint16)).save(path)


def as_bytes(path, scene):
    Image.fromarray((scene * 255).astype(np.uint8)).save(path)


def as_array(dtype, bands, scale, path, scene):
    bands = [scene * (number + 1) for number in range(bands)]
    np.save(path, (np.stack(bands, axis=2) * scale).astype(dtype))


@pytest.fixture
def make(tmp_path):
    def build(ending, write):
        folder = write_discs(tmp_path / "data", ending, write, train=4, val=1)
        return coco.read(folder / "annotations" / "instances_train2017.json", folder / "train2017")

    return build


def planned(data, backbone=RESNET, given=()):
    found = list(choose_pixels(data, backbone, given))
    assert all(len(reason) > 8 for _, _, reason in found)
    return {name: value for name, value, _ in found}


def test_range_mean_and_deviation_are_measured_and_stored(make):
    data, said = make("png", partial(as_png, 4095)), []
    settings = with_measured(Recipe(data=OPEN), data, said.append).data
    ((low, high),) = settings.level_range
    assert 0 < low < 0.2 * 4095 < 0.7 * 4095 < high < 4096
    levels = [decode(data.images / name, levels=levels_of(settings)) for name in data.file_names]
    np.testing.assert_allclose(settings.mean, np.mean(levels), rtol=1e-3)
    np.testing.assert_allclose(settings.std, np.std(levels), rtol=1e-3)
    assert said[0].startswith(f"measured over 4 training images of 1 band: data.level_range=[[{low}, {high}]], data.m")
    assert with_measured(Recipe(data=settings), data, said.append).data == settings
    assert len(said) == 1


def test_a_run_that_goes_on_keeps_what_it_measured(make):
    data = make("png", partial(as_png, 4095))
    before = with_measured(Recipe(data=OPEN), data, lambda _: None).data
    (data.images / data.file_names[0]).unlink()
    kept = msgspec.json.decode(msgspec.json.encode(before))
    assert with_measured(Recipe(data=OPEN), data, pytest.fail, kept).data == before


def test_of_a_huge_tiff_its_middle_is_looked_at(make, monkeypatch):
    def as_tiff(path, scene):
        Image.fromarray((scene * 4095).astype(np.uint16)).save(path, tiffinfo={278: 8})

    data = make("tif", as_tiff)
    monkeypatch.setattr(measure, "HUGE", 1000)
    monkeypatch.setattr(measure, "SIDE", 16)
    ((low, high),) = with_measured(Recipe(data=OPEN), data, lambda _: None).data.level_range
    middles = [
        decode_raw((data.images / name).read_bytes(), data.images / name)[24:40, 24:40] for name in data.file_names
    ]
    assert np.min(middles) <= low < high <= np.max(middles)


def test_images_of_different_bands_are_told(make):
    data = make("npy", partial(as_array, "u1", 5, 100))
    np.save(data.images / data.file_names[2], np.zeros((64, 64, 4), np.uint8))
    with pytest.raises(ValueError, match="some images have 5 bands, others 4; expected one number of bands"):
        with_measured(Recipe(data=OPEN), data, print)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"augment": Augment(hue=0.1)}, "data.augment.hue: has no effect on images of 5 bands"),
        ({"level_range": ((0.0, 1.0), (0.0, 2.0))}, "data.level_range: expected one pair, or one for each of the 5"),
        ({"shown_bands": (6,)}, r"data.shown_bands: expected numbers of 1 to 5, the bands of data.mean, got \[6\]"),
    ],
)
def test_what_does_not_suit_the_measured_bands_is_refused(make, wrong, told):
    data = make("npy", partial(as_array, "u1", 5, 50))
    with pytest.raises(ValueError, match=told):
        with_measured(Recipe(data=msgspec.structs.replace(OPEN, **wrong)), data, print)


def test_bands_to_show_are_checked_where_nothing_is_measured(make):
    with pytest.raises(ValueError, match="expected numbers of 1 to 3"):
        with_measured(Recipe(data=Data(shown_bands=(4,))), make("png", as_bytes), print)


def test_usual_images_need_no_plan(make):
    assert planned(make("png", as_bytes)) == {}


@pytest.mark.parametrize("scale", [4095, 250])
def test_few_levels_of_16_bits_are_told_and_their_range_is_taken(make, scale):
    data = make("png", partial(as_png, scale))
    reason = next(why for name, _, why in choose_pixels(data, Backbone()) if name == "data.levels")
    assert reason.startswith("values reach")
    assert "% of 16 bits" in reason
    found = planned(data)
    assert found["data.levels"] == "fixed"
    assert found["data.level_range"][0][1] <= scale
    assert len(found["data.mean"]) == len(found["data.std"]) == 1
    assert 50 < found["data.std"][0] < 100


def test_16_bits_that_are_used_are_taken_whole(make):
    found = planned(make("png", partial(as_png, 65535)))
    assert found["data.levels"] == "full"
    assert "data.level_range" not in found
    assert 60 < found["data.mean"][0] < 120


@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_numbers_without_a_range_get_one(make, dtype):
    found = planned(make("npy", partial(as_array, dtype, 2, 1000)))
    assert found["data.levels"] == "fixed"
    assert len(found["data.level_range"]) == len(found["data.mean"]) == 2
    assert found["model.backbone.frozen_stages"] == 0


def test_the_bands_are_those_of_the_data(make):
    found = planned(make("npy", partial(as_array, "u1", 5, 50)))
    assert found["data.levels"] == "full"
    assert len(found["data.mean"]) == len(found["data.std"]) == 5
    assert found["data.mean"][0] < found["data.mean"][4]


def test_weights_that_saw_pixels_vary_less_get_such_pixels(make):
    data = make("npy", partial(as_array, "u1", 5, 50))
    lite = planned(data, Backbone(kind="efficientnet_lite0"))["data.std"]
    np.testing.assert_allclose(np.divide(lite, planned(data)["data.std"]), 128 / (172.89 / 3), rtol=1e-3)


def test_what_a_person_says_leaves_the_rest_to_be_measured(make):
    found = planned(make("png", partial(as_png, 4095)), given=["data.levels"])
    assert found == {"data.mean": [], "data.std": []}


def test_the_plan_for_a_folder_is_a_recipe_for_its_pixels(make, tmp_path):
    data = make("npy", partial(as_array, "u2", 5, 100))
    recipe, text = make_plan(str(tmp_path / "data"), ["data.shown_bands=[5]"], tmp_path / "plan.yml")
    assert len(recipe.data.mean) == len(recipe.data.level_range) == 5
    (tmp_path / "plan.yml").write_text(text)
    assert read_recipe(tmp_path / "plan.yml") == recipe
    assert decode(data.images / data.file_names[0], levels=levels_of(recipe.data)).shape == (64, 64, 5)


def test_an_image_that_cannot_be_measured_is_named(make):
    data = make("npy", partial(as_array, np.float32, 1, 3.0))
    with pytest.raises(ValueError, match=rf"{data.file_names[0]} cannot be decoded: its pixels are fl"):
        with_measured(Recipe(data=Data(mean=(), std=())), data, str)
