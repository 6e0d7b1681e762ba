"""`maskrcnn eval` and the door `eval.py`."""

import errno
import json
from pathlib import Path

import pytest

from maskrcnn.cli import seed_scripts
from maskrcnn.cli.evaluate import say_sides
from maskrcnn.cli.options import writable
from maskrcnn.config import Data, Recipe
from maskrcnn.recipes import read_recipe
from maskrcnn.sentences import Note
from maskrcnn.weights import Weights

SCORES = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"), 0.25)


@pytest.fixture
def runs(monkeypatch):
    """What the evaluation was asked for: recipe, weights, folder."""
    asked = []

    def run(recipe, weights, out, world, progress, data):
        asked.append((recipe, weights.origin, out))
        assert world.is_main
        return {
            "bbox": SCORES,
            "segm": SCORES,
            "speed": {"predict": 12.345, "evaluate": 6.7, "images": 3, "seconds": 1},
        }

    monkeypatch.setattr("maskrcnn.convert.checkpoint.load_any", lambda source: Weights({}, read_recipe("demo"), source))
    monkeypatch.setattr("maskrcnn.evaluate.run.run", run)
    monkeypatch.setattr("maskrcnn.report.page.write_report", lambda folder, data: folder / "report.html")
    return asked


def test_weights_are_scored_and_the_speed_is_printed(maskrcnn, runs, capsys):
    assert maskrcnn("eval", "demo", "evaluate.batch=2", "--weights", "best", "--out", "here") == 0
    [(recipe, weights, out)] = runs
    assert (recipe.evaluate.batch, weights, out) == (2, "best", Path("here"))
    text = capsys.readouterr().out
    assert text.startswith("best on 3 images of datasets/shapes\n")
    assert "25.0" in text
    assert "12.35 images/s predicting, 6.70 images/s in all\nwritten to here\nreport: here/report.html\n" in text


def test_other_sides_than_those_of_the_weights_are_told(maskrcnn, runs, capsys):
    assert maskrcnn("eval", "demo", "--weights", "best", "data.short_sides=[99]", "data.max_side=101") == 0
    side = max(read_recipe("demo").data.short_sides)
    assert f"a short side of 99, at most 101; the weights' own are {side} and" in capsys.readouterr().out


def test_ways_to_look_are_options_as_those_of_predictions(maskrcnn, runs, capsys):
    words = ("eval", "demo", "--weights", "best", "data.tile=64", "data.tile_overlap=0.4")
    assert maskrcnn(*words, "--scales", "0.5,1", "--flip", "--tile", "96") == 0
    assert maskrcnn(*words, "--tile", "0", "--no-flip") == 0
    first, second = (recipe for recipe, _, _ in runs)
    assert (first.evaluate.scales, first.evaluate.flip) == ((0.5, 1.0), True)
    assert (first.data.tile, first.data.tile_overlap) == (96, 0.4)
    assert (second.evaluate.scales, second.evaluate.flip, second.data.tile) == ((1.0,), False, 0)
    assert maskrcnn("eval", "--annotations", "a.json", "--predictions", "b.json", "--flip") == 2
    assert "evaluate.flip=true cannot change results that are given" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting", ["train.batch=3", "model.neck.channels=8", "data.mean=[1, 2, 3]", "data.rounding=down"]
)
def test_settings_that_weights_bring_with_them_are_refused(maskrcnn, runs, setting, capsys):
    assert maskrcnn("eval", "small", "name=x", "--weights", "best", setting, "data.max_side=900") == 2
    assert capsys.readouterr().err.startswith(f"error: {setting.split('=')[0]} has no effect on an evaluation, since")
    assert maskrcnn("eval", "small", "--weights", "best", "model={backbone: {width: 3}}", "--train.seed", "3") == 2
    assert capsys.readouterr().err.startswith("error: model, train.seed have no effect on an evaluation, since")
    assert runs == []


def refuse(**_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_folder_that_cannot_be_written_is_told_before_the_work(maskrcnn, runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert maskrcnn("eval", "demo", "--weights", "best", "--out", out) == 2
        sentence = f"error: {out} cannot be the output folder: {tmp_path}/file is a file; choose another one\n"
        assert capsys.readouterr().err == sentence
    assert writable(tmp_path / "new") == tmp_path / "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # root may write everywhere, but not in /proc
    assert maskrcnn("eval", "demo", "--weights", "best", "--out", tmp_path / "new") == 2
    told = f"{tmp_path}/new cannot be the output folder: nothing can be written to {tmp_path} (Read-only file system)"
    assert told in capsys.readouterr().err
    assert runs == []


def test_processes_that_hold_no_metrics_are_silent(maskrcnn, monkeypatch, capsys):
    monkeypatch.setattr("maskrcnn.convert.checkpoint.load_any", lambda source: Weights({}, read_recipe("demo"), source))
    monkeypatch.setattr("maskrcnn.evaluate.run.run", lambda *arguments: {})
    assert maskrcnn("eval", "demo", "--weights", "best") == 0
    assert capsys.readouterr().out == ""


def test_a_result_file_of_any_maker_is_scored(maskrcnn, tmp_path, capsys):
    box, square = [10, 20, 30, 40], [[10, 20, 40, 20, 40, 60, 10, 60]]
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "bbox": box,
        "area": 1200,
        "iscrowd": 0,
        "segmentation": square,
    }
    truth = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 90, "width": 120}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "cat"}],
    }
    results = [{"image_id": 7, "category_id": 3, "score": 0.9, "bbox": box, "segmentation": square}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    words = ["--annotations", tmp_path / "truth.json", "--predictions", tmp_path / "results.json", "--out", tmp_path]
    assert maskrcnn("eval", *words) == 0
    assert "100.0" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["bbox"]["AP"] == pytest.approx(1)
    assert "100.0" in (tmp_path / "report.html").read_text()


@pytest.fixture
def files(tmp_path):
    """Words that score 120 squares, each found."""
    boxes = [[10 * (n % 12), 10 * (n // 12), 8, 8] for n in range(120)]
    objects = [{"id": n, "image_id": 7, "category_id": 3, "bbox": box, "area": 64} for n, box in enumerate(boxes, 1)]
    truth = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 100, "width": 120}],
        "annotations": objects,
        "categories": [{"id": 3, "name": "cat"}],
    }
    results = [{"image_id": 7, "category_id": 3, "score": 0.9, "bbox": box} for box in boxes]
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return ["--annotations", tmp_path / "truth.json", "--predictions", tmp_path / "results.json"]


def test_results_that_coco_does_not_count_are_told_and_scored_on_demand(maskrcnn, files, tmp_path, capsys):
    assert maskrcnn("eval", *files) == 0
    text = capsys.readouterr().out
    told = "note: 20 of 120 results of 1 image were not looked at, because COCO counts 100 of one class in an image"
    assert f"\n{told}; --max-dets 120 counts them, too\n" in text
    assert "AP@" not in text
    assert maskrcnn("eval", *files, "--max-dets", 120, "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert "AP@120" in text
    assert "note:" not in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["bbox"]["AR100"], metrics["max_dets"]["bbox"]["AR@120"]) == pytest.approx((100 / 120, 1))
    assert maskrcnn("eval", *files, "--max-dets", 110) == 0
    assert "note: 10 of 120 results of 1 image were not looked at, because 110 count" in capsys.readouterr().out


def test_masks_of_a_result_file_are_scored_by_their_boundaries_on_demand(maskrcnn, files, tmp_path, capsys):
    results = json.loads((tmp_path / "results.json").read_text())
    for one in results:
        x, y, width, height = one["bbox"]
        one["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert maskrcnn("eval", *files) == 0
    assert "Boundary AP" not in capsys.readouterr().out
    assert maskrcnn("eval", *files, "--boundary") == 0
    assert "Boundary AP" in capsys.readouterr().out
    assert maskrcnn("eval", "demo", "--weights", "best", "--boundary") == 2
    assert "--boundary goes with --predictions" in capsys.readouterr().err


def test_with_a_recipe_more_results_are_a_setting(maskrcnn, monkeypatch):
    asked = []
    monkeypatch.setattr("maskrcnn.cli.evaluate.score_weights", lambda config, overrides, *_: asked.append(overrides))
    assert maskrcnn("eval", "demo", "evaluate.batch=2", "--weights", "best", "--max-dets", "300") == 0
    assert maskrcnn("eval", "demo", "--weights", "best") == 0
    assert asked == [["evaluate.batch=2", "evaluate.max_dets=300"], []]
    assert read_recipe("demo", asked[0]).evaluate.max_dets == 300


def test_results_numbered_by_predict_are_found_by_name(maskrcnn, files, tmp_path, capsys):
    results = json.loads((tmp_path / "results.json").read_text())
    named = [one | {"image_id": 1, "file_name": "photos/7.jpg"} for one in results]
    (tmp_path / "results.json").write_text(json.dumps(named))
    with pytest.warns(Note, match=r"results\.json: images were looked up by file_name, because image_id does not fit"):
        assert maskrcnn("eval", *files) == 0
    assert "83.2" in capsys.readouterr().out  # 84 of 101 recall points


def test_a_run_without_weights_is_told_what_to_add(maskrcnn, tmp_path, capsys):
    for name in ("config.yml", "metrics.jsonl"):
        (tmp_path / name).touch()
    assert maskrcnn("eval", str(tmp_path)) == 2
    assert f"{tmp_path} is a run: add --weights {tmp_path}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "words",
    [[], ["demo"], ["--weights", "w"], ["--annotations", "a"], ["demo", "--weights", "w", "--predictions", "p"]],
)
def test_half_a_question_is_refused(maskrcnn, words, runs, capsys):
    assert maskrcnn("eval", *words) == 2
    assert "expected CONFIG with --weights WEIGHTS, or --annotations FILE" in capsys.readouterr().err
    assert runs == []


@pytest.fixture
def folder(tmp_path):
    for name in ("weights/best", "weights/last", "weights/.last.draft", "checkpoints/step-3"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").touch()
    (tmp_path / "released.safetensors").touch()
    return tmp_path


def test_the_door_evaluates_every_weights_in_a_folder(python, folder, runs):
    assert python("eval.py", "--config", "demo", "--mix", "True", "--ckpt_path", folder) == 0
    assert [(weights, out) for _, weights, out in runs] == [
        (f"{folder}/released.safetensors", Path("runs/eval/demo/released")),
        (f"{folder}/weights/best", Path("runs/eval/demo/best")),
        (f"{folder}/weights/last", Path("runs/eval/demo/last")),
    ]
    assert runs[0][0].evaluate.mixed_precision


def test_the_door_accepts_a_seed_and_says_that_it_has_no_effect(python, folder, runs, capsys):
    assert python("eval.py", "--config", "demo", "--seed", "5", "--ckpt_path", folder / "weights/best") == 0
    assert capsys.readouterr().err == "--seed has no effect here\n"
    assert len(runs) == 1


def test_one_weights_folder_or_file_stands_for_itself(folder):
    for one in (f"{folder}/weights/best", f"{folder}/released.safetensors", "torchvision://maskrcnn_resnet50_fpn"):
        assert seed_scripts.find_weights(one) == [one]


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        seed_scripts.find_weights(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
        seed_scripts.find_weights(str(tmp_path / "absent"))


def test_another_box_than_that_of_the_weights_is_told(capsys):
    say_sides(Recipe(), Recipe(data=Data(fit="box", short_sides=(768,), max_side=1280)))
    assert "fitted into a box of 800 x 1333; the weights' own are 768 and 1280" in capsys.readouterr().out
