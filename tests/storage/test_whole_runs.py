"""Whole runs on an object store, by the doors as ModelArts starts them: killed, and gone on with on another machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskrcnn.cli import seed_scripts
from maskrcnn.data.shapes import generate
from maskrcnn.files import cache_folder
from maskrcnn.recipes import read_recipe
from maskrcnn.storage import store as stores
from maskrcnn.train import loop

from .object_store import ID, SECRET, Store

REPOSITORY = Path(__file__).parents[2]
RECIPE = f"""
__BASE__: {REPOSITORY}/tests/tiny.yml
device: cpu
train: {{epochs: 8, checkpoint_every: 2, evaluate_every: 4}}
"""
MODELARTS = ["--config", "tiny.yml", "--enable_modelarts", "True", "--init_method", "tcp://job-0:6060", "--rank", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working directory with a recipe and its data set: 8 pictures to learn, 6 to evaluate."""
    folder = tmp_path_factory.mktemp("place")
    generate(folder / "shapes", num_train=8, num_val=6, seed=3, side=64)
    (folder / "tiny.yml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def store(place) -> Store:
    """A store with the data set."""
    store = Store().start()
    for path in (place / "shapes").rglob("*"):
        if path.is_file():
            store.put(f"data/{path.relative_to(place).as_posix()}", path.read_bytes())
    yield store
    store.kill()


class Machine:
    """Where commands run, with a cache and a working directory of its own."""

    def __init__(self, folder: Path, store: Store, **variables: str) -> None:
        self.folder = folder
        (folder / "cache").mkdir(parents=True)
        (folder / "cache/kernels").symlink_to((cache_folder() / "kernels").resolve(), target_is_directory=True)
        (folder / "tiny.yml").write_text(RECIPE)
        told = {**store.variables(), **variables, "MASKRCNN_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        self.env = {**os.environ, **told}

    def start(self, door: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(REPOSITORY / door), *MODELARTS, *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    told, _ = process.communicate(timeout=300)
    return process.returncode, told


def wait_for_checkpoint(store: Store, run: str, process: subprocess.Popen[str]) -> None:
    while not any(key.startswith(f"{run}/checkpoints/") and key.endswith("state.json") for _, key in [*store.things]):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def content(store: Store, run: str) -> dict[str, bytes]:
    return {key.removeprefix(f"{run}/"): one.content for (_, key), one in store.things.items() if key.startswith(run)}


def rows(history: bytes) -> list[dict]:
    """What depends on nothing but the recipe."""
    clock = ("seconds", "images_per_second", "waiting", "crc32")
    return [{name: one for name, one in json.loads(line).items() if name not in clock} for line in history.splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(place, tmp_path_factory) -> Path:
    """The same run on local folders, without a platform."""
    overrides = [f"data.dataset_dir={place / 'shapes'}"]
    return loop.run(read_recipe(place / "tiny.yml", overrides), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def resumed(store, place, tmp_path_factory) -> str:
    """A run that was killed, and what the machine said that went on with it."""
    words = ["--data_url", "obs://bucket/data", "--train_url", "obs://bucket/one"]
    first, second = (Machine(tmp_path_factory.mktemp(name) / "machine", store) for name in ("first", "second"))
    process = first.start("train.py", *words)
    wait_for_checkpoint(store, "one", process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert "report.html" not in content(store, "one")
    code, told = ended(second.start("train.py", *words))
    assert code == 0, told
    kept = [path for machine in (first, second) for path in machine.folder.rglob("*") if path.is_file()]
    for secret in (ID, SECRET):
        assert secret not in told
        assert not any(secret.encode() in path.read_bytes() for path in kept)
        assert not any(secret.encode() in one for one in content(store, "one").values())
    return told


def test_a_killed_run_goes_on_elsewhere_as_if_nothing_had_been(resumed, uninterrupted, store):
    """Its data come from a store, and all that it has was in the store."""
    assert "going on from obs://bucket/one/checkpoints/step-" in resumed
    last = ["weights: obs://bucket/one/weights/best", "report: obs://bucket/one/report.html"]
    assert resumed.splitlines()[-3:] == [*last, "everything is at obs://bucket/one"]
    found = content(store, "one")
    assert rows(found["metrics.jsonl"]) == rows((uninterrupted / "metrics.jsonl").read_bytes())
    same = [f"weights/{name}/model.safetensors" for name in ("best", "last")]
    same += [f"checkpoints/step-16/{name}.safetensors" for name in ("model", "optimizer")]
    for name in [*same, "evaluation/predictions.json", "results.csv"]:
        assert found[name] == (uninterrupted / name).read_bytes(), name
    assert {name for name in found if not name.startswith("log")} == {
        path.relative_to(uninterrupted).as_posix()
        for path in uninterrupted.rglob("*")
        if path.is_file() and path.name not in ("log.txt", ".lock")
    }


@pytest.fixture
def here(store, place, new_cache, monkeypatch) -> Path:
    """This process as a machine."""
    for name, value in store.variables().items():
        monkeypatch.setenv(name, value)
    stores._opened.cache_clear()
    monkeypatch.chdir(place)
    return place


def door(script: str, *words: str) -> int:
    enter = {"eval.py": seed_scripts.evaluate, "infer.py": seed_scripts.infer}[script]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as end:
            enter()
    return end.value.code


@pytest.mark.usefixtures("resumed")
def test_weights_in_a_store_are_evaluated_and_used_into_a_store(here, store, capsys):
    words = ["--ckpt_url", "obs://bucket/one/weights/last", "--data_url", "obs://bucket/data"]
    assert door("eval.py", *MODELARTS, *words, "--train_url", "obs://bucket/scores") == 0, capsys.readouterr()
    last = ["written to obs://bucket/scores", "report: obs://bucket/scores/report.html"]
    assert capsys.readouterr().out.splitlines()[-3:] == [*last, "everything is at obs://bucket/scores"]
    assert content(store, "scores")["predictions.json"] == content(store, "one")["evaluation/predictions.json"]
    words[-1] = "obs://bucket/data/shapes/val2017"
    assert door("infer.py", *MODELARTS, *words, "--train_url", "obs://bucket/found") == 0, capsys.readouterr()
    names = {Path(key).name for _, key in store.things if key.startswith("data/shapes/val2017/")}
    assert content(store, "found").keys() == {*names, "predictions.json"}
    last = ["written to obs://bucket/found", "everything is at obs://bucket/found"]
    assert capsys.readouterr().out.splitlines()[-2:] == last


def test_two_processes_outlive_the_store_and_stop_when_the_platform_says_so(store, tmp_path):
    """It is killed after the first checkpoint, and comes back; later SIGTERM reaches the launcher."""
    machine = Machine(tmp_path / "machine", store, MA_NUM_HOSTS="1", MA_NUM_GPUS="2", MASTER_PORT=free_port())
    words = ["--data_url", "obs://bucket/data", "--train_url", "obs://bucket/two", "train.epochs=2000"]
    process = machine.start("train.py", *words)
    wait_for_checkpoint(store, "two", process)
    store.kill()
    time.sleep(1.5)
    for name in [key for key in store.things if key[1].startswith("two/")]:
        del store.things[name]  # what comes now, comes from the machine
    store.start()
    wait_for_checkpoint(store, "two", process)
    process.send_signal(signal.SIGTERM)
    code, told = ended(process)
    assert code == 143, told
    assert "(processes x micro-batches x images: 2 x 1 x 2)" in told
    assert "stopped; go on with" in content(store, "two")["log.txt"].decode()
    last = rows(content(store, "two")["metrics.jsonl"])[-1]["step"]
    assert f"checkpoints/step-{last}/state.json" in content(store, "two")


def test_two_machines_meet_at_the_first_one_and_need_no_common_disk(store, place, tmp_path):
    job = {"MA_NUM_HOSTS": "2", "VC_WORKER_HOSTS": "127.0.0.1,127.0.0.1", "MASTER_PORT": free_port()}
    machines = [Machine(tmp_path / f"{index}", store, **job, VC_TASK_INDEX=str(index)) for index in range(2)]
    words = ["--data_url", str(place), "--train_url", "results", "train.epochs=1"]
    processes = [machine.start("train.py", *words) for machine in machines]
    (first, told), (second, silent) = map(ended, processes)
    assert (first, second) == (0, 0), told + silent
    assert "(processes x micro-batches x images: 2 x 1 x 2)" in told
    assert "arguments of the platform that change nothing here: init_method, rank" in told
    assert "step" not in silent
    assert (machines[0].folder / "results/weights/last/model.safetensors").is_file()
    assert list((machines[1].folder / "results").iterdir()) == []


def free_port() -> str:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])
