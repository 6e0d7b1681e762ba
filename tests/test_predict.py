import dataclasses
import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image

import maskrcnn
from maskrcnn import predict, predict_files
from maskrcnn.cli.predict import factors
from maskrcnn.config import RPN, Backbone, BoxHead, Data, Evaluate, MaskHead, Model, Neck, PointHead, Recipe
from maskrcnn.data import given
from maskrcnn.data.buckets import buckets_for
from maskrcnn.data.sources import find_images
from maskrcnn.instances import Instances
from maskrcnn.models.mask_rcnn import build
from maskrcnn.overview import Overview, factor_for
from maskrcnn.predict import Predictor, load
from maskrcnn.predict_files import predict_paths
from maskrcnn.runtime.precision import Precision
from maskrcnn.sentences import Note
from maskrcnn.weights import save_weights

RECIPE = Recipe(
    name="tiny",
    data=Data(short_sides=(48, 64), max_side=96, max_rowsize=1),
    model=Model(
        backbone=Backbone(kind="resnet18", norm="group_norm", pretrained="", frozen_stages=0, width=8),
        neck=Neck(channels=8),
        rpn=RPN(anchor_sizes=(8, 16, 32, 64, 128), num_test_candidates=50, num_test_proposals=20),
        box_head=BoxHead(hidden=16, score_threshold=0.0, num_detections=10),
        mask_head=MaskHead(num_convs=1, channels=8),
    ),
    evaluate=Evaluate(batch=2),
    classes=("cat", "dog"),
    category_ids=(3, 7),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return save_weights(tmp_path_factory.mktemp("run") / "weights" / "best", build(RECIPE.model, 2), RECIPE, {})


@pytest.fixture(scope="module")
def predictor(folder):
    return load(folder, device="cpu")


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of unequal sizes and formats in a folder."""
    random = np.random.default_rng(0)
    for name, (height, width) in {"a.png": (50, 70), "b.jpg": (90, 60), "c.png": (50, 70)}.items():
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def test_results_are_in_the_frame_of_the_picture(predictor, pictures):
    result = predictor.predict(str(pictures / "a.png"), score=0.0)
    assert isinstance(result, Instances)
    assert result.size == (50, 70)
    assert 0 < len(result) <= 10
    assert (result.boxes >= 0).all()
    assert (result.boxes <= [70, 50, 70, 50]).all()
    assert result.boxes[:, [0, 2]].max() > 50  # beyond the height: columns are not rows
    assert set(result.names) <= {"cat", "dog"}
    assert {entry["category_id"] for entry in result.to_coco()} <= {3, 7}
    assert result.masks.shape == (len(result), 50, 70)


def test_weights_with_finer_masks_are_saved_loaded_and_predict_with_them(pictures, tmp_path):
    mask = MaskHead(num_convs=1, channels=8, pool_size=28, interpolate="logits")
    point = PointHead(enabled=True, channels=8, subdivisions=1, num_test_points=50)
    model = replace(RECIPE.model, mask_head=mask, point_head=point)
    folder = save_weights(tmp_path / "fine", build(model, 2), replace(RECIPE, model=model), {})
    result = load(folder, device="cpu").predict(str(pictures / "a.png"), score=0.0)
    assert result.probabilities.shape[1:] == (112, 112)
    assert result.logits
    assert result.masks.shape == (len(result), 50, 70)


def test_every_kind_of_picture_gives_the_same_result(predictor, pictures):
    path = pictures / "a.png"
    array = np.array(Image.open(path))
    tensor = torch.from_numpy(array)
    kinds = [path, str(path), Image.open(path), array, tensor, tensor.permute(2, 0, 1)]
    results = [predictor.predict(kind, score=0.0) for kind in kinds]
    for result in results[1:]:
        np.testing.assert_array_equal(result.boxes, results[0].boxes)
        np.testing.assert_array_equal(result.image, array)


def test_a_list_a_folder_and_a_glob_give_lists_in_order(predictor, pictures):
    one_by_one = [predictor.predict(pictures / name, score=0.0) for name in ("a.png", "b.jpg", "c.png")]
    for many in (sorted(pictures.iterdir()), pictures, str(pictures / "*")):
        results = predictor.predict(many, score=0.0)
        assert [result.size for result in results] == [(50, 70), (90, 60), (50, 70)]
        for result, alone in zip(results, one_by_one, strict=True):
            np.testing.assert_allclose(result.boxes, alone.boxes, atol=1e-3)
            np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)
    assert predictor.predict([]) == []


def test_the_score_decides_what_comes_back(predictor, pictures):
    everything = predictor.predict(pictures / "a.png", score=0.0)
    some = predictor.predict(pictures / "a.png", score=float(everything.scores[2]))
    np.testing.assert_array_equal(some.scores, everything.scores[everything.scores >= everything.scores[2]])


def test_some_classes_are_looked_for_under_names_of_ones_own(predictor, pictures):
    both = predictor.predict(pictures / "a.png", score=0.0)
    dogs = predictor.choose(["hound=dog"]).predict(pictures / "a.png", score=0.0)
    assert 0 < both.names.count("dog") == len(dogs) < len(both)
    assert set(dogs.names) == {"hound"}
    assert {entry["category_id"] for entry in dogs.to_coco()} == {7}
    pets = predictor.choose(["pet=dog", "pet=cat"])
    assert (pets.classes, pets.category_ids) == (("pet",), (3,))
    assert pets.predict(pictures / "a.png", score=0.0).names == ["pet"] * len(both)
    with pytest.raises(ValueError, match=r"tiny has no class 'dgo'; did you mean dog\?"):
        predictor.choose(["dgo"])


def test_a_huge_picture_is_reduced_but_results_are_in_its_own_pixels(predictor):
    image = np.random.default_rng(0).integers(0, 256, (600, 1300, 3), dtype=np.uint8)  # 2.2 MiB of max_rowsize 1
    result = predictor.predict(image, score=0.0)
    assert result.size == (600, 1300)
    assert result.boxes[:, 2].max() > 700
    assert predictor._reduced(image).shape == (300, 650, 3)


def test_a_prediction_sees_a_picture_as_the_evaluation_does(predictor, monkeypatch):
    data = replace(RECIPE.data, fit="box", padding="black", mean=(100.0,) * 3, std=(50.0,) * 3)
    boxed, seen = dataclasses.replace(predictor, recipe=replace(RECIPE, data=data)), []
    monkeypatch.setattr(Predictor, "_forward", property(lambda self: lambda batch: seen.append(batch) or model(batch)))
    model = predictor.model
    portrait, landscape = np.full((90, 60, 3), 200, np.uint8), np.full((60, 90, 3), 200, np.uint8)
    boxed.predict([portrait, landscape], score=0.0)
    (both,) = seen
    assert both.sizes.tolist() == [[64, 43], [64, 96]]
    assert both.pixels.shape == (2, 3, 64, 96)
    assert both.pixels[0, 1, 40, [0, 42, 43, 95]].tolist() == pytest.approx([2.0, 2.0, -2.0, -2.0], abs=1e-5)
    (expected,) = buckets_for(np.array([[90, 60], [60, 90]]), data, [64])
    assert expected == (64, 96)


def test_several_looks_are_merged_in_the_frame_of_the_picture(predictor, pictures):
    usual, several = predictor, predictor.look(scales=[1.0, 1.5], flip=True)
    result = several.predict(str(pictures / "a.png"), score=0.0)
    assert result.size == (50, 70)
    assert 0 < len(result) <= 10
    assert (result.boxes >= 0).all()
    assert (result.boxes <= [70, 50, 70, 50]).all()
    assert result.boxes[:, [0, 2]].max() > 50
    assert (np.diff(result.scores) <= 0).all()
    assert usual.recipe.evaluate == Evaluate(batch=2)
    same = usual.look().predict(str(pictures / "a.png"), score=0.0)
    assert np.array_equal(same.boxes, usual.predict(str(pictures / "a.png"), score=0.0).boxes)
    with pytest.raises(
        ValueError, match=r"evaluate\.scales: expected at least one size, each once, got \[1\.0, 1\.0\]"
    ):
        predictor.look(scales=[1, 1])
    with pytest.raises(ValueError, match=r"--scales: expected numbers parted by commas, .* got big"):
        factors("big")


def test_gray_pictures_are_read_and_other_arrays_refused(predictor):
    assert predictor.predict(np.zeros((40, 50), np.uint8)).size == (40, 50)
    with pytest.raises(ValueError, match=r"given as float32 of shape \(40, 50, 3\) .*floating"):
        predictor.predict(np.zeros((40, 50, 3), np.float32))
    with pytest.raises(ValueError, match=r"received uint8 of shape \(40, 50, 4\)"):
        predictor.predict(np.zeros((40, 50, 4), np.uint8))


def five_bands():
    """A predictor of pictures of five bands."""
    recipe = replace(RECIPE, data=replace(RECIPE.data, mean=(120.0,) * 5, std=(60.0, 61.0, 62.0, 63.0, 64.0)))
    torch.manual_seed(0)
    return Predictor(build(recipe.model, 2, 5).eval(), recipe, torch.device("cpu"), Precision("cpu", torch.float32))


def test_pictures_of_five_bands_are_arrays_and_tensors():
    predictor = five_bands()
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 5), dtype=np.uint8)
    result = predictor.predict(image, score=0.0)
    assert len(result) > 0
    assert (result.size, result.image.shape) == ((40, 50), (40, 50, 5))
    of_tensor = predictor.predict(torch.from_numpy(image).permute(2, 0, 1), score=0.0)
    np.testing.assert_array_equal(of_tensor.boxes, result.boxes)
    assert result.draw().size == (550, 440)


def test_files_and_gray_arrays_do_not_have_five_bands(pictures):
    predictor = five_bands()
    with pytest.raises(ValueError, match=r"a\.png has 3 bands, .* expects 5; give data\.mean and data\.std an entry"):
        predictor.predict(pictures / "a.png")
    with pytest.raises(ValueError, match=r"shape \(h, w, 5\), received uint8 of shape \(40, 50\)"):
        predictor.predict(np.zeros((40, 50), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(h, w, 5\), received uint8 of shape \(50, 70, 3\)"):
        predictor.predict(Image.open(pictures / "a.png"))


def test_deep_files_are_mapped_once_whoever_reads_them(tmp_path):
    settings = replace(RECIPE.data, mean=(60.0,) * 2, std=(60.0,) * 2, levels="fixed", level_range=((0.0, 900.0),))
    recipe = replace(RECIPE, data=settings)
    torch.manual_seed(0)
    network = build(recipe.model, 2, 2).eval()
    predictor = Predictor(network, recipe, torch.device("cpu"), Precision("cpu", torch.float32))
    image = np.random.default_rng(0).integers(0, 900, (40, 50, 2), dtype=np.uint16)
    np.save(tmp_path / "a.npy", image)
    for one in (predictor, predictor.cut(32)):
        ((_, of_file),) = predict_files.predicted(one, [tmp_path / "a.npy"], 0.0)
        np.testing.assert_array_equal(of_file.scores, one.predict(image, score=0.0).scores)
        assert of_file.image.max() > 200


def test_tiles_are_joined_before_scores_decide(predictor):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    cut = predictor.cut(48, 0.4)
    every = cut.predict(image, score=0.0)
    score = float(np.median(every.scores))
    np.testing.assert_array_equal(cut.predict(image, score=score).boxes, every.filter(score).boxes)
    assert cut.cut(32).recipe.data.tile_overlap == 0.4
    many = dataclasses.replace(cut, recipe=replace(cut.recipe, data=replace(cut.recipe.data, tile_empty=3.0)))
    assert many.cut(0).recipe.data == predictor.recipe.data


def test_a_reversed_view_of_an_array_is_read_as_it_is(predictor):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    view = predictor.predict(image[..., ::-1], score=0.0)
    np.testing.assert_array_equal(view.boxes, predictor.predict(image[..., ::-1].copy(), score=0.0).boxes)


def test_a_picture_that_is_not_there_is_told(predictor):
    with pytest.raises(FileNotFoundError, match=r"no images at nowhere\.jpg"):
        predictor.predict("nowhere.jpg")


def test_pictures_are_found_once_and_in_order(pictures):
    (pictures / "notes.txt").touch()
    with pytest.warns(Note, match=r"left out notes\.txt"):
        found = find_images([pictures / "b.jpg", pictures])
    assert [path.name for path in found] == ["b.jpg", "a.png", "c.png"]


def test_a_folder_of_results_is_written_and_broken_files_are_told(predictor, pictures, tmp_path):
    (pictures / "broken.jpg").write_bytes(b"not a picture")
    seen = []
    out = tmp_path / "out"
    failures = predict_paths(predictor, [pictures], out, 0.0, lambda path, found: seen.append((path.path.name, found)))
    assert len(failures) == 1
    assert "broken.jpg" in failures[0]
    assert [name for name, _ in seen] == ["a.png", "b.jpg", "broken.jpg", "c.png"]
    assert seen[2][1] == failures[0]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg", "c.png", "predictions.json"]
    entries = json.loads((out / "predictions.json").read_text())
    assert {entry["image_id"]: entry["file_name"][-5:] for entry in entries} == {1: "a.png", 2: "b.jpg", 4: "c.png"}
    assert set(entries[0]) == {
        "image_id",
        "category_id",
        "category_name",
        "file_name",
        "bbox",
        "score",
        "segmentation",
    }


def test_pictures_of_one_name_do_not_overwrite_each_other_nor_the_sources(predictor, pictures):
    (pictures / "more").mkdir()
    Image.open(pictures / "a.png").save(pictures / "more" / "a.png")
    predict_paths(predictor, [pictures / "a.png", pictures / "more" / "a.png"], pictures / "out")
    assert (pictures / "out" / "a.png").is_file()
    assert (pictures / "out" / "a-2.png").is_file()
    with pytest.raises(ValueError, match="choose another output folder"):
        predict_paths(predictor, [pictures / "a.png"], pictures)


def test_names_of_all_classes_are_looked_up_in_the_fonts_once(predictor, pictures, monkeypatch):
    told = []
    monkeypatch.setattr("maskrcnn.predict_files.note_unreadable", told.append)
    predict_paths(predictor, [pictures / "a.png", pictures / "b.jpg"], pictures / "out")
    assert told == [predictor.recipe.classes]


@pytest.mark.parametrize("fastest", [torch.float32, torch.bfloat16])
def test_auto_precision_on_a_processor_is_the_fastest(fastest, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(predict, "fastest_on_cpu", lambda dtype: asked.append(dtype) or Precision("cpu", fastest))
    assert load(folder, device="cpu").precision.dtype is fastest
    assert asked == [None]


def test_precision_is_what_was_told(folder, pictures):
    assert load(folder, device="cpu", precision="fp32").precision.dtype is torch.float32
    half = load(folder, device="cpu", precision="bf16")
    assert half.precision.dtype is torch.bfloat16
    assert len(half.predict(pictures / "a.png", score=0.0)) > 0
    with pytest.raises((ValueError, TypeError), match="fp32"):  # the shape checker of the tests may be first
        load(folder, precision="fp8")
    with pytest.raises(ValueError, match="received 'toaster'"):
        load(folder, device="toaster")


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at a machine without a GPU")
def test_a_device_that_is_missing_is_told_in_a_sentence(folder):
    with pytest.raises(ValueError, match=r"device=gpu: .*or set device=cpu"):
        load(folder, device="gpu")


def test_weights_of_another_model_are_refused(folder, tmp_path):
    other = save_weights(tmp_path / "other", build(RECIPE.model, 3), RECIPE, {})
    with pytest.raises(ValueError, match=r"do not fit .*: of another shape: .*expected 3.*received 4"):
        load(other)


def test_the_package_offers_load_and_does_not_wait_for_torch(folder):
    assert isinstance(maskrcnn.load(folder.parent.parent), Predictor)
    assert maskrcnn.Instances is Instances
    assert set(maskrcnn.__all__) <= set(dir(maskrcnn))
    with pytest.raises(AttributeError, match="it offers Instances"):
        _ = maskrcnn.nothing
    code = "import sys, maskrcnn; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_predictor_says_what_it_is(predictor):
    assert repr(predictor) == "tiny: 2 classes (cat, dog) on cpu"


@pytest.fixture
def cut(predictor):
    """The same predictor on tiles of 40 pixels, which the network sees at 64."""
    return predictor.cut(40, 0.25)


def test_a_large_image_is_predicted_in_tiles_and_joined(cut, predictor):
    image = np.random.default_rng(0).integers(0, 256, (75, 130, 3), dtype=np.uint8)
    found = cut.predict(image, score=0.0)
    assert found.size == (75, 130)
    assert (found.image == image).all()
    assert len(found) > predictor.recipe.model.box_head.num_detections  # which holds for a tile
    assert (np.diff(found.scores) <= 0).all()
    assert found.masks.shape == (len(found), 75, 130)
    assert found.boxes[:, 2].max() > 40
    assert (found.boxes <= (130, 75, 130, 75)).all()


def test_an_image_that_is_no_larger_than_a_tile_is_predicted_as_a_whole_one_of_the_same_scale(cut, predictor):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    tiled, whole = cut.predict(image, score=0.0), predictor.predict(image, score=0.0)
    assert tiled.boxes.tolist() == whole.boxes.tolist()
    assert [one["counts"] for one in tiled.rle] == [one["counts"] for one in whole.rle]


def test_a_tiff_is_predicted_window_by_window_as_the_array_that_it_holds(cut, tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (75, 130, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.tif", tiffinfo={278: 8})
    expected = cut.predict(image, score=0.0)
    monkeypatch.setattr(given, "read", None)  # which would decode all of it
    found = cut.predict(tmp_path / "a.tif", score=0.0)
    assert found.runs == expected.runs
    assert found.boxes.tolist() == expected.boxes.tolist()
    assert (found.image == image).all()


def test_files_in_tiles_are_drawn_and_listed_as_others(cut, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (75, 130, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.tif", tiffinfo={278: 8})
    Image.fromarray(image).save(tmp_path / "b.png")
    (tmp_path / "c.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:5000])
    failures = predict_paths(cut, [tmp_path], tmp_path / "out", 0.0)
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(failures) == 1
    assert "c.tif" in failures[0]
    assert {entry["image_id"] for entry in entries} == {1, 2}
    first, second = ([one["bbox"] for one in entries if one["image_id"] == number] for number in (1, 2))
    assert first == second
    assert (tmp_path / "out" / "a.png").exists()


def test_what_is_too_large_to_draw_is_drawn_smaller(cut, monkeypatch):
    monkeypatch.setattr("maskrcnn.instances.factor_for", partial(factor_for, longest=65))
    monkeypatch.setattr(predict, "Overview", partial(Overview, longest=65))
    found = cut.predict(np.full((75, 130, 3), 90, np.uint8), score=0.0)
    assert found.image.shape == (38, 65, 3)
    assert found.draw().size == (65 * 8, 38 * 8)


def test_tiles_that_no_recipe_may_state_are_refused(predictor):
    with pytest.raises(ValueError, match=r"data\.tile_overlap"):
        predictor.cut(40, 0.9)
    assert predictor.cut(0).recipe.data == predictor.recipe.data
