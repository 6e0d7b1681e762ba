"""Whole commands on data, weights and images of an object store; what is secret is found nowhere afterwards."""

import json
import threading
import traceback
from pathlib import Path

import pytest

import maskrcnn
from maskrcnn.cli import main
from maskrcnn.data.shapes import generate
from maskrcnn.predict_files import predict_paths

from ..storage.conftest import cache, clean, store  # noqa: F401
from ..storage.object_store import ID, SECRET

RECIPE = """
name: tiny
device: cpu
data: {dataset_dir: "obs://bucket/shapes", short_sides: [48], max_side: 64, num_buckets: 1, num_workers: 1}
model:
  backbone: {kind: resnet18, norm: group_norm, pretrained: "", frozen_stages: 0, width: 8}
  neck: {channels: 8}
  rpn: {anchor_sizes: [8, 16, 32, 64, 128], num_train_candidates: 32, num_train_proposals: 16, num_test_proposals: 16}
  box_head: {hidden: 16, num_rois: 16, num_detections: 5, score_threshold: 0.0}
  mask_head: {num_convs: 1, channels: 8, num_rois: 8}
train: {batch: 4, epochs: 1, log_every: 1, optimizer: {kind: adamw, lr: 1e-3, lr_batch: 4}}
"""
TOKEN, PASSWORD, SIGNATURE = "PLANTED/TOKEN/PLANTED", "PLANTEDPASSWORD", "PLANTEDSIGNATURE"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=12, num_val=4, side=64)


@pytest.fixture
def place(store, clean, shapes, tmp_path):  # noqa: F811
    """A working directory without data, and a store that has them."""
    for path in shapes.rglob("*"):
        if path.is_file():
            store.put(f"shapes/{path.relative_to(shapes).as_posix()}", path.read_bytes())
    store.token = TOKEN
    clean.setenv("OBS_SECURITY_TOKEN", TOKEN)
    clean.chdir(tmp_path)
    Path("tiny.yml").write_text(RECIPE)
    return tmp_path


def run(*words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def upload(store, folder, prefix):  # noqa: F811
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def assert_no_secrets(told, *folders):
    names = [str(path) for folder in folders for path in folder.rglob("*")]
    texts = [told, *names, *(path.read_bytes().decode("latin-1") for path in map(Path, names) if path.is_file())]
    for secret in (ID, SECRET, TOKEN, PASSWORD, SIGNATURE):
        assert not [text[max(text.index(secret) - 300, 0) :][:400] for text in texts if secret in text]


def test_train_evaluate_and_predict_without_a_file_here(store, place, cache, capfd):  # noqa: F811
    assert run("data", "check", "obs://bucket/shapes") == 0
    assert run("train", "tiny.yml", "--out", "copied") == 0
    assert (
        run(
            "train",
            "tiny.yml",
            "data.remote=stream",
            "data.read_ahead=4",
            "train.evaluate_every=0",
            "--out",
            "streamed",
        )
        == 0
    )
    losses = [
        [json.loads(line).get("losses") for line in (place / name / "metrics.jsonl").read_text().splitlines()[:3]]
        for name in ("copied", "streamed")
    ]
    assert losses[0] == losses[1]
    assert all(losses[0])
    upload(store, place / "copied", "runs/first")
    assert run("eval", "tiny.yml", "--weights", "obs://bucket/runs/first", "--out", "scores") == 0
    scores = json.loads((place / "scores" / "metrics.json").read_text())
    assert scores["bbox"] == json.loads((place / "copied" / "evaluation" / "metrics.json").read_text())["bbox"]
    upload(store, place / "scores", "scores")
    annotations = "obs://bucket/shapes/annotations/instances_val2017.json"
    assert run("eval", "--annotations", annotations, "--predictions", "obs://bucket/scores/predictions.json") == 0
    weights = "obs://bucket/runs/first/weights/last/model.safetensors"
    assert run("predict", weights, "obs://bucket/shapes/val2017", "obs://bucket/shapes/train*/*", "--out", "found") == 0
    assert len(list((place / "found").iterdir())) == 4 + 12 + 1
    once = ("train.max_steps=1", "train.evaluate_every=0")
    assert run("train", "tiny.yml", *once, "--weights", "obs://bucket/runs/first", "--out", "again") == 0
    told = capfd.readouterr()
    assert "obs://bucket/shapes/val2017/" in told.out
    assert_no_secrets(told.out + told.err, place, cache)


def test_the_predictor_takes_addresses(store, place):  # noqa: F811
    assert run("train", "tiny.yml", "train.max_steps=1", "train.evaluate_every=0", "--out", "run") == 0
    upload(store, place / "run", "run")
    predictor = maskrcnn.load("obs://bucket/run", device="cpu")
    image = next(key for _, key in store.things if key.startswith("shapes/val2017/"))
    one = predictor.predict(f"obs://bucket/{image}", 0.0)
    assert len(predictor.predict("obs://bucket/shapes/val2017", 0.0)) == 4
    assert one.image.shape[2] == 3
    long = f"shapes/val2017/{'ü' * 300}"
    for key in (f"{long}.jpg", f"{long}.png"):
        store.put(key, store.things["bucket", image].content)
    assert predict_paths(predictor, ["obs://bucket/shapes/val2017"], place / "drawn") == []
    cut = ["ü" * 125 + ".jpg", "ü" * 125 + ".png"]
    assert sorted(path.name for path in (place / "drawn").iterdir())[-2:] == cut


def test_a_server_that_dies_in_the_middle_of_a_run_is_waited_for(store, place, capfd):  # noqa: F811
    asked = threading.Event()
    store.fault = lambda request: asked.set() or "" if "train2017/" in request.key else ""

    def restart():
        asked.wait(60)
        store.kill()
        threading.Timer(1.0, store.start).start()

    threading.Thread(target=restart, daemon=True).start()
    assert run("train", "tiny.yml", "data.remote=stream", "data.read_ahead=2", "--out", "run") == 0, capfd.readouterr()


@pytest.mark.parametrize("debug", ["0", "1"])
def test_refusals_tell_nothing_secret(store, place, cache, capfd, monkeypatch, debug):  # noqa: F811
    """Neither as sentences nor, for somebody who asks where it was raised, as tracebacks."""
    monkeypatch.setenv("MASKRCNN_DEBUG", debug)
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0.1")
    store.token = "another"
    signed = f"https://me:{PASSWORD}@127.0.0.1:9/x.safetensors?X-Amz-Signature={SIGNATURE}"
    commands = [
        ("train", "tiny.yml", "--out", "run"),
        ("eval", "tiny.yml", "--weights", "obs://bucket/run"),
        ("eval", "tiny.yml", "--weights", signed),
        ("predict", signed, "obs://bucket/x.jpg"),
        ("train", "tiny.yml", f"data.dataset_dir=https://host/x?sig={SIGNATURE}", "--out", "run"),
        ("data", "check", f"https://me:{PASSWORD}@127.0.0.1:9/x"),
        ("convert", signed, "dest"),
        ("predict", f"s3://{ID}:{SECRET}@bucket/x", "y.jpg"),
        ("data", "check", f"http://host/x?sig={SIGNATURE}"),
    ]
    told = ""
    for command in commands:
        with pytest.raises((SystemExit, ValueError, OSError)) as end:
            main([str(word) for word in command])
        assert debug == "1" or end.value.code == 2
        told += "".join(traceback.format_exception(end.value))
    said = capfd.readouterr()
    assert "the store refused it (status 403)" in told + said.err
    assert_no_secrets(told + said.out + said.err, place, cache)
