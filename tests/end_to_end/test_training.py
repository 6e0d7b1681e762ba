"""Whole runs of a tiny model on a tiny data set: what must hold whatever the parts are."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from maskrcnn.config import (
    RPN,
    Augment,
    Backbone,
    BoxHead,
    Data,
    Evaluate,
    MaskHead,
    Model,
    Neck,
    Optimizer,
    Recipe,
    Schedule,
    Train,
)
from maskrcnn.data.shapes import generate
from maskrcnn.models.resnet import ResNet
from maskrcnn.recipes import write_recipe
from maskrcnn.runtime import ladder
from maskrcnn.train import checkpoint, loop, setup, training
from maskrcnn.train.interrupt import Stopped
from maskrcnn.train.log import Log
from maskrcnn.train.step import Updater
from maskrcnn.weights import load_weights

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
import sys
from pathlib import Path
from maskrcnn.recipes import read_recipe
from maskrcnn.train.loop import run

run(read_recipe(sys.argv[1]), Path(sys.argv[2]))
"""
MODEL = Model(
    backbone=Backbone(kind="resnet18", norm="group_norm", pretrained="", frozen_stages=0, width=16),
    neck=Neck(channels=32),
    rpn=RPN(
        anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0),
        num_samples=64,
        num_train_candidates=64,
        num_train_proposals=32,
        num_test_candidates=64,
        num_test_proposals=32,
    ),
    box_head=BoxHead(hidden=64, num_rois=32, num_detections=20),
    mask_head=MaskHead(pool_size=7, num_convs=1, channels=32, num_rois=16),
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=8, num_val=2, seed=3, side=64)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Layers this small are slower on two threads, and sums then depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(shapes: Path, **train: object) -> Recipe:
    """Two steps in an epoch; scored on the pictures that it learns from."""
    data = Data(
        dataset_dir=str(shapes),
        val_img_dir="train2017",
        val_anno_path="annotations/instances_train2017.json",
        short_sides=(64,),
        max_side=96,
        num_buckets=2,
        num_workers=1,
    )
    usual = {
        "batch": 4,
        "epochs": 3,
        "log_every": 1,
        "evaluate_every": 0,
        "optimizer": Optimizer(kind="adamw", lr=0.003, lr_batch=4, clip_norm=10.0),
        "schedule": Schedule(warmup_steps=2),
    }
    train = Train(**usual | train)
    return Recipe(name="tiny", device="cpu", data=data, model=MODEL, train=train, evaluate=Evaluate(batch=4))


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def stop_at(step: int, monkeypatch) -> None:
    """Send this process SIGTERM while it is in the middle of a step."""
    calls, advance = [], Log.advance

    def counting(log: Log) -> None:
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGTERM)
        advance(log)

    monkeypatch.setattr(Log, "advance", counting)


def test_eight_pictures_are_learnt_by_heart(shapes, tmp_path):
    recipe = tiny(shapes, epochs=50, evaluate_every=30, log_every=25, schedule=Schedule(kind="cosine", warmup_steps=10))
    data = msgspec.structs.replace(recipe.data, flip=0.0)
    out = loop.run(msgspec.structs.replace(recipe, data=data), tmp_path / "run")
    windows = [row for row in rows(out) if "losses" in row]
    assert [row["step"] for row in windows] == [25, 50, 75, 100]
    assert windows[-1]["total"] < 0.7 * windows[0]["total"]
    first, last = (row for row in rows(out) if "evaluation" in row)
    assert [(row["step"], row["epoch"]) for row in (first, last)] == [(60, 30), (100, 50)]
    assert last["evaluation"]["bbox"]["AP"] > 0.25
    assert last["evaluation"]["segm"]["AP"] > 0.05
    assert {path.name for path in out.iterdir()} >= {"config.yml", "log.txt", "results.csv", "report.html"}
    tensors, recipe, _ = load_weights(out / "weights" / "last")
    kept = checkpoint.read(out / "checkpoints" / "step-100").tensors["model"]
    assert recipe.category_ids == (1, 3, 4, 8, 9)
    assert all(torch.equal(tensors[name], value) for name, value in kept.items())


def with_backbone(**settings):
    return msgspec.structs.replace(MODEL, backbone=msgspec.structs.replace(MODEL.backbone, **settings))


@pytest.mark.parametrize("norm", ["group_norm", "batch_norm"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(shapes, tmp_path, monkeypatch, norm):
    recipe = tiny(shapes, ema=0.9, micro_batch=2)
    recipe = msgspec.structs.replace(recipe, model=with_backbone(norm=norm))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    loop.run(recipe, whole)
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        with pytest.raises(KeyboardInterrupt):
            loop.run(recipe, parts)
    assert checkpoint.find(parts / "checkpoints")[0].name == "step-3"
    assert f"stopped; go on with --resume auto --out {parts}" in (parts / "log.txt").read_text()
    loop.run(recipe, parts, resume="auto")

    expected, found = (checkpoint.read(out / "checkpoints" / "step-6").tensors for out in (whole, parts))
    assert {group: sorted(tensors) for group, tensors in found.items()} == {
        group: sorted(tensors) for group, tensors in expected.items()
    }
    different = [
        f"{group}: {name}"
        for group, tensors in expected.items()
        for name, value in tensors.items()
        if not torch.equal(value, found[group][name])
    ]
    assert different == []
    told = [[(row["step"], row["lr"], row["losses"]) for row in rows(out)] for out in (whole, parts)]
    assert told[0] == told[1]


def test_steps_before_a_broken_image_are_kept(shapes, tmp_path, monkeypatch):
    recipe, out = tiny(shapes), tmp_path / "run"
    learn = training.Training.learn

    def broken(run, *arguments):
        if run.step == 3:
            raise ValueError("the image 7.png cannot be decoded")
        learn(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "learn", broken)
        with pytest.raises(ValueError, match=r"7\.png"):
            loop.run(recipe, out)
    assert f"up to step 3 is kept; when that is mended, --resume auto --out {out}" in (out / "log.txt").read_text()
    assert checkpoint.read(loop.run(recipe, out, resume="auto") / "checkpoints/step-6").step == 6


def test_an_evaluation_that_was_interrupted_is_made_up_for(shapes, tmp_path, monkeypatch):
    recipe, out = tiny(shapes, epochs=1, evaluate_every=1), tmp_path / "run"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(recipe, out)
    assert [row["step"] for row in rows(out)] == [1, 2]
    loop.run(recipe, out, resume="auto")
    assert ["evaluation" in row for row in rows(out)] == [False, False, True]
    monkeypatch.setattr(training, "evaluate", interrupted)
    loop.run(recipe, out, resume="auto")  # evaluated already


def test_a_run_whose_machine_neither_compiles_nor_records_goes_on_and_says_so(shapes, tmp_path, monkeypatch, tape):
    """With the weights of an eager run, though the first attempts had changed them."""
    recipe, out = tiny(shapes, epochs=2), tmp_path / "run"
    loop.run(recipe, tmp_path / "eager")

    def no_compiler(function, **options):
        def call(*arguments):
            raise RuntimeError("no C++ compiler")

        return call

    class Recorder:
        run = staticmethod(tape.run)

        @staticmethod
        def record(function):
            function()
            raise RuntimeError("not permitted when stream is capturing")

    monkeypatch.setattr(ladder, "_failed", set())
    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(setup, "choose_rungs", lambda *_: ladder.RUNGS)
    monkeypatch.setattr(setup, "is_recorded", lambda *_: True)
    monkeypatch.setattr(setup, "Updater", partial(Updater, recorder=Recorder()))
    loop.run(recipe, out)
    told = (out / "log.txt").read_text(encoding="utf-8")
    assert told.count("train.execution: captured from here on, since compiled does not hold") == 1
    assert told.count("train.execution: eager from here on, since captured does not hold") == 1
    ours, theirs = (load_weights(folder / "weights" / "last").tensors for folder in (out, tmp_path / "eager"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_wish_to_stop_while_an_epoch_is_saved_comes_before_its_evaluation(shapes, tmp_path, monkeypatch):
    save = checkpoint.save

    def saving(*arguments: object, **settings: object) -> Path:
        signal.raise_signal(signal.SIGTERM)
        return save(*arguments, **settings)

    monkeypatch.setattr(checkpoint, "save", saving)
    with pytest.raises(KeyboardInterrupt):
        loop.run(tiny(shapes, max_steps=1, evaluate_every=1), tmp_path / "run")
    assert not any("evaluation" in row for row in rows(tmp_path / "run"))


def test_weights_of_an_evaluation_that_was_interrupted_are_made_up_for(shapes, tmp_path, monkeypatch):
    recipe, out = tiny(shapes, max_steps=1, evaluate_every=1), tmp_path / "run"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_weights", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(recipe, out)
    loop.run(recipe, out, resume="auto")
    assert load_weights(out / "weights" / "best")[1] == load_weights(out / "weights" / "last")[1]


def test_an_average_keeps_the_pretrained_weights_that_are_frozen_when_it_goes_on(shapes, tmp_path, monkeypatch):
    torch.manual_seed(77)  # not the seed of the run
    pretrained = ResNet(Backbone(kind="resnet18", norm="frozen_batch_norm", width=16)).state_dict()
    save_file({name: value.contiguous() for name, value in pretrained.items()}, tmp_path / "resnet18.safetensors")
    backbone = {"norm": "frozen_batch_norm", "frozen_stages": 2, "pretrained": str(tmp_path / "resnet18.safetensors")}
    recipe = tiny(shapes, epochs=1, ema=0.9)
    recipe = msgspec.structs.replace(recipe, model=with_backbone(**backbone))
    with monkeypatch.context() as patch:
        stop_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            loop.run(recipe, tmp_path / "run")
    tensors, *_ = load_weights(loop.run(recipe, tmp_path / "run", resume="auto"))
    assert torch.equal(tensors["backbone.stem.weight"], pretrained["stem.weight"])


def a_second_a_step(monkeypatch) -> None:
    """A clock by which steps take a second, and nothing else takes any time."""
    advance = Log.advance

    def ticking(log: Log) -> None:
        log.ticks = getattr(log, "ticks", 0.0) + 1.0
        advance(log)

    monkeypatch.setattr(Log, "advance", ticking)
    monkeypatch.setattr(Log, "seconds", lambda log: getattr(log, "ticks", 0.0))


def test_a_run_of_given_time_does_the_steps_that_fit_and_the_whole_schedule(shapes, tmp_path, monkeypatch):
    a_second_a_step(monkeypatch)
    recipe = tiny(shapes, minutes=20 / 60, epochs=2, evaluate_every=1, schedule=Schedule(kind="cosine", warmup_steps=2))
    out = loop.run(recipe, tmp_path / "run")
    steps, scored = ([row for row in rows(out) if key in row] for key in ("losses", "evaluation"))
    # Of twenty seconds two are for the report, and two for an evaluation, which by this clock takes no time.
    assert [row["step"] for row in steps] == list(range(1, 16))
    assert steps[-1]["lr"] < 0.03 * max(row["lr"] for row in steps)
    assert [row["step"] for row in scored] == [10, 15]
    assert [row["seconds_left"] for row in steps] == [20.0 - row["step"] for row in steps]
    told = (out / "log.txt").read_text()
    assert "0.333333 minutes of 4 images, 2 in an epoch" in told
    assert "about 13 steps fit into 0.333333 minutes" in told
    assert "left after the last step" in (out / "report.html").read_text()


def test_a_run_of_given_time_that_is_resumed_counts_the_time_before(shapes, tmp_path, monkeypatch):
    a_second_a_step(monkeypatch)
    recipe, out = tiny(shapes, minutes=20 / 60), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        with pytest.raises(KeyboardInterrupt):
            loop.run(recipe, out)
    stored = checkpoint.read(out / "checkpoints" / "step-9").state["budget"]
    assert (stored["used"], stored["end"]) == (9.0, 17)
    loop.run(recipe, out, resume="auto")
    assert [row["step"] for row in rows(out)] == list(range(1, 18))


def test_training_stops_early_when_evaluations_do_not_get_better_also_when_it_is_resumed(shapes, tmp_path, monkeypatch):
    recipe, out = tiny(shapes, epochs=8, evaluate_every=1, patience=2), tmp_path / "run"
    aps = iter([0.1, 0.3, 0.2, 0.3, 0.9])

    def scored(*_, **__):
        return {"bbox": {"AP": 0.5, "AP50": 0.5}, "segm": {"AP": next(aps), "AP50": 0.5}}

    monkeypatch.setattr(training, "evaluate", scored)
    monkeypatch.setattr(loop, "write_report", lambda run, data: run / "report.html")
    loop.run(recipe, out)
    assert [row["step"] for row in rows(out) if "evaluation" in row] == [2, 4, 6, 8]
    sentence = "training stops early: AP 30.0 of step 4, whose weights are kept, was not exceeded in 2 evaluations"
    assert (out / "log.txt").read_text().count(sentence) == 1
    loop.run(recipe, out, resume="auto")
    assert rows(out)[-1]["step"] == 8
    assert (out / "log.txt").read_text().count(sentence) == 2
    patient = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, patience=3, epochs=5))
    loop.run(patient, out, resume="auto")
    assert rows(out)[-1]["evaluation"]["segm"]["AP"] == 0.9


def test_two_processes_learn_what_one_learns(shapes, tmp_path):
    """Pasted objects, the average of weights and rarely seen classes included."""
    recipe = tiny(shapes, epochs=8, max_steps=8, evaluate_every=8, micro_batch=2, ema=0.9)
    augment = Augment(strength="light", copy_paste=0.7, blend=1.0)
    data = msgspec.structs.replace(recipe.data, augment=augment, sampling="class_balanced")
    recipe = msgspec.structs.replace(recipe, data=data)
    one, two = loop.run(recipe, tmp_path / "one"), tmp_path / "two"
    write_recipe(recipe, tmp_path / "recipe.yml")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    paths = os.pathsep.join([str(SOURCE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    variables = {"PYTHONPATH": paths, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    variables["OMP_NUM_THREADS"] = "1"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "recipe.yml"), str(two)],
            env={**os.environ, **variables, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error for _, error in results)
    assert results[1][0] == ""

    expected, found = (checkpoint.read(out / "checkpoints" / "step-8").tensors for out in (one, two))
    for group in ("model", "average"):
        for name, value in expected[group].items():
            torch.testing.assert_close(found[group][name], value, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(rows(one), rows(two), strict=True):
        assert mine.get("losses", {}) == pytest.approx(theirs.get("losses", {}), rel=1e-4)
    evaluated = [json.loads((out / "evaluation" / "predictions.json").read_text()) for out in (one, two)]
    assert len(evaluated[0]) == len(evaluated[1])


def test_losses_that_are_not_finite_stop_the_run_before_anything_is_written(shapes, tmp_path):
    recipe = tiny(shapes, log_every=50, optimizer=Optimizer(lr=1e30, lr_batch=4), schedule=Schedule(warmup_steps=0))
    with pytest.raises(FloatingPointError, match=r"step 2 is not finite: .*from the images \d+, "):
        loop.run(recipe, tmp_path / "run")
    assert checkpoint.find(tmp_path / "run" / "checkpoints") == []
    assert not (tmp_path / "run" / "weights").exists()
    assert "failed: step 2 is not finite" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_is_neither_overwritten_nor_continued_by_another_recipe(shapes, tmp_path):
    recipe = tiny(shapes, max_steps=1)
    loop.run(recipe, tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run"):
        loop.run(recipe, tmp_path / "run")
    wider = msgspec.structs.replace(recipe, model=msgspec.structs.replace(MODEL, neck=Neck(channels=64)))
    with pytest.raises(ValueError, match=r"model\.neck\.channels: 32 in the checkpoint, 64 now"):
        loop.run(wider, tmp_path / "run", resume="auto")


def test_steps_before_an_evaluation_are_kept_when_it_is_interrupted(shapes, tmp_path, monkeypatch):
    recipe, out = tiny(shapes, epochs=1, evaluate_every=1, checkpoint_every=70), tmp_path / "run"

    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", interrupted)
        with pytest.raises(Stopped) as stopped:
            loop.run(recipe, out)
    assert stopped.value.number == signal.SIGTERM
    assert [path.name for path in checkpoint.find(out / "checkpoints")] == ["step-2"]


def test_a_signal_while_images_are_read_keeps_the_last_step_and_its_line(shapes, tmp_path, monkeypatch):
    recipe, out = tiny(shapes, log_every=70, checkpoint_every=70), tmp_path / "run"
    fetch = training.Training.fetch

    def stopped(run, *arguments):
        if run.step == 1:
            signal.raise_signal(signal.SIGINT)
        return fetch(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "fetch", stopped)
        with pytest.raises(Stopped):
            loop.run(recipe, out)
    assert [path.name for path in checkpoint.find(out / "checkpoints")] == ["step-1"]
    assert [row["step"] for row in rows(out)] == [1]


def test_in_the_middle_of_a_step_nothing_is_kept(shapes, tmp_path, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(Updater, "__call__", broken)
    with pytest.raises(MemoryError):
        loop.run(tiny(shapes), tmp_path / "run")
    assert checkpoint.find(tmp_path / "run" / "checkpoints") == []


def with_spoilt(shapes: Path, to: Path, number: int) -> Path:
    """The shapes, with the first training images cut short."""
    shutil.copytree(shapes, to)
    for image in sorted((to / "train2017").iterdir())[:number]:
        image.write_bytes(image.read_bytes()[:100])
    return to


def skipping(recipe: Recipe, most: int) -> Recipe:
    return msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, skip_unreadable=most))


def test_unreadable_images_within_the_budget_are_skipped_and_listed(shapes, tmp_path):
    recipe, out = skipping(tiny(with_spoilt(shapes, tmp_path / "data", 2), epochs=2), 2), tmp_path / "run"
    loop.run(recipe, out)
    names = sorted(path.name for path in (shapes / "train2017").iterdir())[:2]
    listed = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert sorted(one["image"] for one in listed) == names
    assert {one["step"] for one in listed} <= {1, 2}
    told = (out / "log.txt").read_text()
    assert told.count("2 images could not be read, and training goes on without") == 1  # not again in the second epoch
    assert "2 of at most 2 by now" in told
    assert checkpoint.find(out / "checkpoints")[0].name == "step-4"


def test_more_unreadable_images_than_the_budget_stop_the_run_with_a_checkpoint(shapes, tmp_path):
    recipe, out = skipping(tiny(with_spoilt(shapes, tmp_path / "data", 5)), 4), tmp_path / "run"
    with pytest.raises(ValueError, match=r"5 images could not be read, data\.skip_unreadable allows 4, the last"):
        loop.run(recipe, out)
    assert len((out / "skipped.jsonl").read_text().splitlines()) == 5
