"""`maskrcnn train` and the door `train.py`: words become a recipe, a folder and a place to go on from."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from maskrcnn import cli
from maskrcnn.config import Backbone, BoxHead, Data, MaskHead, Model, Recipe, RoIAlign
from maskrcnn.recipes import read_recipe
from maskrcnn.sentences import Note
from maskrcnn.weights import Weights


@pytest.fixture
def runs(monkeypatch):
    """What the training loop was asked for."""
    asked = []
    monkeypatch.setattr("maskrcnn.train.loop.run", lambda *arguments, begun: asked.append(arguments))
    return asked


def test_overrides_and_options_may_stand_anywhere(maskrcnn, runs):
    words = ["train.batch=2", "--resume", "auto", "--train.seed", "7", "--out", "here", "--name=x"]
    assert maskrcnn("train", "demo", *words) == 0
    [(recipe, out, resume)] = runs
    assert (recipe.train.batch, recipe.train.seed, recipe.name) == (2, 7, "x")
    assert (out, resume) == (Path("here"), "auto")


def test_a_run_lies_under_its_recipe_name(maskrcnn, runs):
    assert maskrcnn("train", "demo") == 0
    assert runs[0][1:] == (Path("runs/train/demo"), None)


def test_the_door_keeps_the_meaning_of_its_flags(python, runs):
    words = [
        *("--config", "config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml", "--device_target", "CPU", "--mix", "True"),
        *("--batch_size", "4", "--lr_init", "1e-3", "--seed", "5", "--log_interval", "10"),
        *("--num_parallel_workers", "3", "--run_eval", "False", "--resume_ckpt", "step-7", "--save_dir", "here"),
        *("--data.dataset_dir", "elsewhere", "data.flip=0"),
    ]
    assert python("train.py", *words) == 0
    [(recipe, out, resume)] = runs
    train = recipe.train
    assert (recipe.device, train.mixed_precision, train.batch, train.optimizer.lr) == ("cpu", True, 4, 0.001)
    assert (train.seed, train.log_every, train.evaluate_every, recipe.data.num_workers) == (5, 10, 0, 3)
    assert (recipe.data.dataset_dir, recipe.data.flip) == ("elsewhere", 0.0)
    assert (out, resume) == (Path("here"), "step-7")


def test_a_run_that_begins_with_weights_takes_their_network_and_pixels(maskrcnn, runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    network = Model(backbone=Backbone(kind="resnet101", stride_in_1x1=True), roi_align=RoIAlign(sampling_ratio=0))
    theirs = Recipe(name="theirs", data=Data(std=(1.0, 1.0, 1.0), short_sides=(600,)), model=network)
    begin = Weights({}, theirs, "theirs.pkl")
    monkeypatch.setattr("maskrcnn.convert.checkpoint.load_any", {"detectron2://name": begin}.get)
    words = [
        "--weights",
        "detectron2://name",
        "train.batch=2",
        "--model.mask_head.num_rois",
        "32",
        "data.short_sides=[500]",
    ]
    assert maskrcnn("train", "mask_rcnn_resnet50_fpn_1x", *words) == 0
    [(recipe, out, resume, weights)] = runs
    assert (weights, resume, out) == (begin, None, Path("runs/train/mask_rcnn_resnet50_fpn_1x"))
    assert recipe.model == replace(network, mask_head=MaskHead(num_rois=32))
    (Path.cwd() / "mine.yml").write_text(
        "model: {neck: {channels: 8}, box_head: {num_rois: 64, score_threshold: 0.2}}\n"
    )
    assert maskrcnn("train", "mine.yml", "--weights", "detectron2://name") == 0
    assert runs[1][0].model == replace(network, box_head=BoxHead(num_rois=64, score_threshold=0.2))
    assert (recipe.data.std, recipe.data.short_sides, recipe.train.batch) == ((1.0, 1.0, 1.0), (500,), 2)


def test_a_run_that_begins_with_weights_keeps_the_live_batch_norm_of_its_recipe(maskrcnn, python, runs, monkeypatch):
    """Their heads have no norm, and get none."""
    monkeypatch.setattr("maskrcnn.convert.checkpoint.load_any", lambda source: Weights({}, Recipe(), source))
    their_recipe = Path(__file__).parents[1] / "recipes/mindspore/network/resnet50_1x.yml"  # frozen_bn: False
    with pytest.warns(Note):
        assert python("train.py", "--config", their_recipe, "--weights", "theirs.ckpt") == 0
    assert maskrcnn("train", "mask_rcnn_resnet50_fpn_1x", "--weights", "a.pth", "model.backbone.norm=batch_norm") == 0
    assert [recipe.model.backbone.norm for recipe, *_ in runs] == ["batch_norm"] * 2
    assert [recipe.model.head_norm for recipe, *_ in runs] == ["none"] * 2


def test_flags_that_are_not_given_leave_the_recipe(python, runs):
    assert python("train.py", "--config", "demo") == 0
    assert runs == [(read_recipe("demo"), Path("runs/train/demo"), None)]


def test_flags_without_a_meaning_are_accepted_and_said_to_have_none(python, runs, capsys):
    words = ["--ms_mode", "0", "--ms_loss_scaler", "dynamic", "--enable_modelarts=False"]
    assert python("train.py", "--config", "demo", *words) == 0
    assert capsys.readouterr().err == "--ms_mode has no effect here\n--ms_loss_scaler has no effect here\n"
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bach_size", "3"], "error: bach_size: no such setting"),
        (["--mix", "maybe"], "expected True or False, got 'maybe'"),
        (["--batch_size", "many"], "error: train.batch: expected an integer > 0, got 'many' (command line)"),
        (["--config", "absent.yml"], "error: no recipe at absent.yml"),
    ],
)
def test_the_door_refuses_with_a_sentence(words, sentence, python, runs, capsys):
    assert python("train.py", *words) == 2
    assert sentence in capsys.readouterr().err
    assert runs == []


def test_images_of_a_step_are_those_of_each_process(python, runs, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
    assert python("train.py", "--config", "demo", "--batch_size", "2") == 0
    assert runs[0][0].train.batch == 16


@pytest.fixture
def begin(monkeypatch):
    """What weights were asked for."""
    asked = []

    def load_any(source):
        asked.append(source)
        return Weights({}, read_recipe("demo"), source)

    monkeypatch.setattr("maskrcnn.convert.checkpoint.load_any", load_any)
    return asked


@pytest.mark.parametrize("name", ["x.ckpt", "x.pth", "x.safetensors", "best"])
def test_a_run_begins_with_weights_where_a_checkpoint_to_resume_would_be_named(
    name, python, runs, begin, tmp_path, capsys
):
    path = tmp_path / name
    (path if path.suffix else path / "model.safetensors").parent.mkdir(exist_ok=True)
    (path if path.suffix else path / "model.safetensors").touch()
    assert python("train.py", "--config", "demo", "--resume_ckpt", path) == 0
    assert (begin, runs[0][2]) == ([str(path)], None)
    told = (
        f"{path} holds weights alone, with which a run begins at its first step: no exact resume, which --resume_ckpt"
    )
    assert capsys.readouterr().out.startswith(told)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 cut short"])
def test_a_file_is_read_before_it_is_said_to_hold_weights(content, python, runs, tmp_path, capsys):
    (tmp_path / "x.ckpt").write_bytes(content)
    assert python("train.py", "--config", "demo", "--resume_ckpt", tmp_path / "x.ckpt") == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n"), runs) == ("", 1, [])


@pytest.mark.parametrize("name", ["step-7", "step-7/model.safetensors"])
def test_a_checkpoint_is_resumed_exactly_though_its_file_is_named(name, python, runs, begin, tmp_path, capsys):
    (tmp_path / "step-7").mkdir()
    for file in ("model.safetensors", "state.json"):
        (tmp_path / "step-7" / file).touch()
    assert python("train.py", "--config", "demo", "--resume_ckpt", tmp_path / name, "--weights", "theirs.pth") == 0
    assert (begin, runs[0][2]) == (["theirs.pth"], str(tmp_path / "step-7"))
    assert capsys.readouterr().out == ""


def test_only_the_first_process_says_so(python, runs, begin, tmp_path, capsys, monkeypatch):
    (tmp_path / "x.ckpt").touch()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert python("train.py", "--config", "demo", "--resume_ckpt", tmp_path / "x.ckpt") == 0
    assert capsys.readouterr().out == ""


def test_a_run_begins_with_one_kind_of_weights(python, runs, begin, tmp_path, capsys):
    (tmp_path / "x.ckpt").touch()
    words = ["--resume_ckpt", str(tmp_path / "x.ckpt")]
    assert python("train.py", *words, "--weights", "y.pth") == 2
    assert capsys.readouterr().err.endswith("both begin a run; leave one out\n")
    assert python("train.py", *words, "--model.backbone.pretrained", "z.pth") == 2
    assert f"on a run that begins with --resume_ckpt {words[1]}; leave one out" in capsys.readouterr().err
    assert runs == []


def test_a_file_of_weights_to_resume_leads_to_the_flag_that_begins_with_it(maskrcnn, tmp_path, capsys):
    (tmp_path / "x.ckpt").touch()
    assert maskrcnn("train", "demo", "device=cpu", "--out", tmp_path / "new", "--resume", tmp_path / "x.ckpt") == 2
    assert f"found none; --weights {tmp_path / 'x.ckpt'} begins with a file of weights\n" in capsys.readouterr().err


def test_a_recipe_of_the_mindspore_system_is_said_to_be_one_by_the_first_process(python, runs, monkeypatch):
    recipe = Path(__file__).parents[1] / "recipes/mindspore/network/resnet50_1x.yml"
    with pytest.warns(Note) as notes:
        assert python("train.py", "--config", recipe) == 0
    assert runs[0][0].train.schedule.warmup_steps == 500
    told = f"{recipe} is read as a recipe of the MindSpore system; 23 of its keys"
    line = [notes[0].message, notes[0].category, notes[0].filename, notes[0].lineno]
    assert cli._as_sentence(*line).startswith(told)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli._as_sentence(*line) == ""
