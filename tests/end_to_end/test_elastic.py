"""Runs whose processes die or hang, under their launchers: takes minutes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch

from maskrcnn.data.shapes import generate
from maskrcnn.train import checkpoint

SOURCE, TINY = Path(__file__).parents[2] / "src", Path(__file__).parents[1] / "tiny.yml"
PROGRAM = """
import json, os, signal, sys
from maskrcnn.cli import main
from maskrcnn.train.training import Training

learn, first = Training.learn, os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"

def learning(run, *arguments):
    learn(run, *arguments)
    with open(run.out / f"order-{run.world.rank}.jsonl", "a") as file:
        print(json.dumps([run.world.size, run.step, run.window.steps[-1].image_ids, os.getpid()]), file=file)
    if first and run.step == int(os.environ.get("KILLED_AT", "0")) and run.world.rank == run.world.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)

Training.learn = learning
main()
"""
pytestmark = [pytest.mark.exhaustive, pytest.mark.skipif(sys.platform != "linux", reason="kills processes")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("elastic")
    generate(folder / "shapes", num_train=8, num_val=1, seed=3, side=64)
    shutil.copy(TINY, folder)
    (folder / "program.py").write_text(PROGRAM)
    return folder


def torchrun(processes: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *(more or ["--standalone"]), f"--nproc-per-node={processes}"]


def mpirun(processes: int) -> list[str]:
    found = shutil.which("mpirun") or shutil.which("mpirun", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("mpirun is not installed")
    return [found, "--allow-run-as-root", "-n", str(processes), "--map-by", ":OVERSUBSCRIBE", sys.executable]


def begin(launcher: list[str], place: Path, out: Path, *more: str, killed_at: int = 0) -> subprocess.Popen[str]:
    """Start a run of 40 steps, with a checkpoint after each five."""
    settings = ["train.epochs=20", "train.evaluate_every=0", "train.checkpoint_every=5", "device=cpu"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "KILLED_AT": str(killed_at)}
    command = [*launcher, "program.py", "train", "tiny.yml", *settings, "--out", str(out), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=place, env=env, **pipes)


def finish(launched: subprocess.Popen[str]) -> str:
    told, _ = launched.communicate(timeout=500)
    return told


def trained(*arguments, **keywords) -> str:
    launched = begin(*arguments, **keywords)
    told = finish(launched)
    assert launched.returncode == 0, told
    return told


def order(out: Path) -> list[list[int]]:
    """Images of each step, of all processes in their order, as it was trained last."""
    steps: dict[int, dict[int, list[int]]] = {}
    for rank in range(2):
        file = out / f"order-{rank}.jsonl"
        for size, step, images, _ in map(json.loads, file.read_text().splitlines() if file.exists() else ()):
            if rank == 0 and size == 1:
                steps[step] = {}
            steps.setdefault(step, {})[rank] = list(chain.from_iterable(images))
    return [[image for rank in sorted(steps[step]) for image in steps[step][rank]] for step in sorted(steps)]


def losses(out: Path) -> dict[int, float]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["total"] for row in rows if "total" in row}


def last(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    return checkpoint.read(out / "checkpoints" / "step-40").tensors


@pytest.fixture(scope="module")
def straight(place) -> dict[int, Path]:
    """Runs of one process and of two that nothing befell."""
    for processes in (1, 2):
        trained(torchrun(processes), place, place / f"straight-{processes}")
    return {processes: place / f"straight-{processes}" for processes in (1, 2)}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_group_of_which_one_is_killed_is_started_again_and_ends_equal_bit_for_bit(place, straight, processes):
    out = place / f"killed-{processes}"
    told = trained([*torchrun(processes), "--max-restarts=3"], place, out, killed_at=17)
    assert f"going on from {out / 'checkpoints' / 'step-15'}" in told
    assert order(out) == order(straight[processes])
    assert losses(out) == losses(straight[processes])
    expected, found = last(straight[processes]), last(out)
    assert all(
        torch.equal(tensor, found[group][name])
        for group, tensors in expected.items()
        for name, tensor in tensors.items()
    )


def test_another_number_of_processes_keeps_order_and_losses(place, straight):
    out = place / "two-one-two"
    for processes, killed_at in ((2, 13), (1, 27)):
        launched = begin(torchrun(processes), place, out, "--resume", "auto", killed_at=killed_at)
        assert finish(launched)
        assert launched.returncode != 0
    trained(torchrun(2), place, out, "--resume", "auto")
    assert order(out) == order(straight[2]) == order(straight[1])
    for other in straight.values():
        assert losses(out) == pytest.approx(losses(other), rel=1e-5)


def pid_of(out: Path, rank: int) -> int:
    return json.loads((out / f"order-{rank}.jsonl").read_text().splitlines()[-1])[-1]


def wait_for(out: Path, launched: subprocess.Popen[str], step: int) -> None:
    while not ((out / "order-0.jsonl").exists() and len(order(out)) >= step):
        assert launched.poll() is None, finish(launched)
        time.sleep(0.2)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("launcher", [torchrun, mpirun])
def test_a_process_that_is_stopped_ends_the_run_within_a_minute(place, launcher, rank):
    out = place / f"stopped-{launcher.__name__}-{rank}"
    launched = begin(launcher(2), place, out, "train.epochs=100000")
    wait_for(out, launched, 5)
    os.kill(pid_of(out, rank), signal.SIGSTOP)
    stopped = time.monotonic()
    told = finish(launched)
    assert time.monotonic() - stopped < 60
    assert launched.returncode != 0
    assert f"process {rank} of 2 (pid {pid_of(out, rank)} on " in told
    assert "hangs or was stopped: " in told
    assert "was: training, step " in told
