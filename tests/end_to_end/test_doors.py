"""The MindSpore system's commands and the launchers, as people type them: the first and launched ones as programs."""

import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskrcnn.data.shapes import generate
from maskrcnn.runtime.precision import cpu_has_bf16

REPOSITORY = Path(__file__).parents[2]
MPIRUN = "mpirun --allow-run-as-root -n 2 --merge-stderr-to-stdout"
FLAGS = "--config tiny.yml --device_target CPU --mix True"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working directory with a recipe and its data set: 8 pictures to learn, 6 to evaluate."""
    folder = tmp_path_factory.mktemp("place")
    generate(folder / "shapes", num_train=8, num_val=6, seed=3, side=64)
    (folder / "shapes/annotations").rename(folder / "shapes/annotation")
    shutil.copy(REPOSITORY / "tests" / "tiny.yml", folder)
    return folder


def start(place: Path, line: str) -> subprocess.CompletedProcess:
    """Run what a person types in `place`, with `python` and the launchers of this environment."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    launcher = shlex.split(line)[0]
    if shutil.which(launcher, path=paths) is None:
        pytest.skip(f"{launcher} is not installed")
    typed = shlex.split(line.replace("python ", f"python {REPOSITORY}/"))
    crowded = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # one core is enough for two processes
    variables = {**os.environ, **crowded, "PATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [shutil.which(launcher, path=paths), *typed[1:]],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def does(place: Path, line: str) -> list[str]:
    """The lines of a command that must go well and say nothing on stderr, but that kernels are compiled if they are."""
    done = start(place, line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert without_kernels(done.stderr) == []
    return without_kernels(done.stdout)


@pytest.fixture
def types(place, monkeypatch, capfd):
    """Types such a command in this process."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    num_threads = torch.get_num_threads()

    def does(line: str) -> list[str]:
        script, *words = shlex.split(line.removeprefix("python "))
        monkeypatch.setattr(sys, "argv", [script, *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        told = capfd.readouterr()
        assert end.value.code == 0, told
        assert without_kernels(told.err) == []
        return without_kernels(told.out)

    yield does
    torch.set_num_threads(num_threads)


def without_kernels(told: str) -> list[str]:
    """Lines without those of the first process on a machine, which depend on what ran before."""
    return [line for line in told.splitlines() if not line.startswith(("compiling kernels", "kernels compiled"))]


def refuses(place: Path, line: str) -> str:
    """What a command said that must end with an error of its own."""
    done = start(place, line)
    told = done.stdout + done.stderr
    assert done.returncode != 0, told
    assert "Traceback" not in told
    return told


@pytest.fixture(scope="module")
def run(place) -> Path:
    """A run of one epoch, made by the first command of all."""
    told = does(place, f"python train.py {FLAGS}")
    assert told[0].startswith("shapes/annotation/instances_train2017.json: 8 images (0 without objects)")
    assert told[-2:] == ["weights: runs/train/tiny/weights/best", "report: runs/train/tiny/report.html"]
    return place / "runs/train/tiny"


def test_a_run_goes_on_from_its_folder_as_from_a_checkpoint(place, run, types):
    shutil.copytree(run, place / "copy")
    told = types(f"python train.py {FLAGS} --resume_ckpt copy --save_dir copy --train.epochs 2")
    assert told[0] == "going on from copy/checkpoints/step-2"
    kind = "bfloat16" if cpu_has_bf16() else "float32"
    assert any(
        line.startswith(f"4 steps of 4 images, 2 in an epoch, going on after step 2; cpu, {kind}") for line in told
    )
    step = "copy/checkpoints/step-2"
    told = types(f"python train.py {FLAGS} --resume_ckpt {step} --save_dir branch train.epochs=2")
    assert told[0] == f"going on from {step}"
    ends = [place / name / "checkpoints/step-4/model.safetensors" for name in ("copy", "branch")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_weights_are_evaluated_by_one_process_as_by_two(place, run, types):
    told = types(f"python eval.py {FLAGS} --ckpt_path {run.relative_to(place)}")
    for name in ("best", "last"):
        assert f"runs/train/tiny/weights/{name} on 6 images of shapes" in told
        assert f"report: runs/eval/tiny/{name}/report.html" in told
    told = does(place, f"{MPIRUN} python eval.py {FLAGS} --ckpt_path runs/train/tiny --save_dir two")
    assert [line for line in told if line.startswith("written to ")] == ["written to two/best", "written to two/last"]
    file = "runs/train/tiny/weights/last/model.safetensors"
    types(f"python eval.py {FLAGS} --ckpt_path {file} --save_dir file")
    one = place / "runs/eval/tiny/last"
    for other in (place / "two/last", place / "file"):
        assert (other / "predictions.json").read_bytes() == (one / "predictions.json").read_bytes()
        assert (
            json.loads((other / "metrics.json").read_text())["bbox"]
            == json.loads((one / "metrics.json").read_text())["bbox"]
        )
    assert len(json.loads((one / "predictions.json").read_text())) > 10


def test_objects_are_found_on_a_folder_of_pictures(place, run, types):
    words = "--config tiny.yml --ckpt_path runs/train/tiny --imgs shapes/val2017 --save_dir found"
    told = types(f"python infer.py {words}")
    assert len(told) == 7
    assert told[-1] == "written to found"
    names = {path.name for path in (place / "shapes/val2017").iterdir()}
    assert {path.name for path in (place / "found").iterdir()} == {*names, "predictions.json"}


def test_processes_that_cannot_share_a_batch_say_which_batch_they_could(place):
    told = refuses(place, f"{MPIRUN} python train.py {FLAGS} --save_dir none train.batch=1")
    assert "error: train.batch is 1" in told
    assert "2 processes" in told
    assert not (place / "none/config.yml").exists()


def test_a_process_that_fails_says_why_and_stops_the_others(place):
    shutil.copytree(place / "shapes", place / "broken")
    first, *_ = sorted((place / "broken/train2017").iterdir())
    first.write_bytes(first.read_bytes()[:99])
    told = refuses(place, f"{MPIRUN} python train.py {FLAGS} --save_dir none data.dataset_dir=broken")
    assert f"error: the image broken/train2017/{first.name} cannot be decoded" in told
    assert not (place / "none/weights").exists()
