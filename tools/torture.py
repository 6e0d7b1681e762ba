"""Long forms of what runs promise: processes are killed and stopped at random moments, and go on.

python tools/torture.py kills --repeats 200 --compared 20 --processes 1,2 --upload
python tools/torture.py stops --repeats 20 --launcher mpirun
Each torture is a function that takes the folder to work in and its options, and returns the sentence that sums it up;
it raises AssertionError with the run's folder where a promise is broken. `--seed` draws the same moments again.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from maskrcnn.data.shapes import generate
from maskrcnn.train import checkpoint

REPOSITORY = Path(__file__).parents[1]
EVERY, STEPS = 3, 20
"""Steps between checkpoints, and of a whole run: four epochs, each with an evaluation."""
SETTINGS = [f"train.checkpoint_every={EVERY}", "train.epochs=4", "train.evaluate_every=1", "device=cpu"]
WITHIN = 20.0
"""Seconds in which a run that was asked to stop has saved and ended."""


class Run:
    """One training, in one process or several, that can be killed and goes on by the same command."""

    def __init__(self, folder: Path, out: str, kept: Path, more: list[str], processes: int, launcher: str) -> None:
        self.out, self.kept, self.processes, self.launcher = out, kept, processes, launcher
        self.folder, self.log = folder, folder / f"{kept.name}.log"
        self.words = [sys.executable, "-m", "maskrcnn", "train", str(folder / "tiny.yml"), *SETTINGS, *more]
        self.words += [f"data.dataset_dir={folder / 'shapes'}", "--out", out, "--resume", "auto"]
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        with self.log.open("a") as log:
            for words, variables in self._commands():
                env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
                self.started.append(subprocess.Popen(words, env=env, stdout=log, stderr=log))

    def _commands(self) -> Iterator[tuple[list[str], dict[str, str]]]:
        if self.launcher == "mpirun":
            mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "mpirun"
            yield [mpirun, "--allow-run-as-root", "-n", str(self.processes), "--oversubscribe", *self.words], {}
            return
        port = str(free_port())
        for rank in range(self.processes):
            meeting = {"RANK": str(rank), "WORLD_SIZE": str(self.processes), "MASTER_PORT": port}
            yield self.words, {**meeting, "MASTER_ADDR": "127.0.0.1"} if self.processes > 1 else {}

    def send(self, number: int, *, to_all: bool = True) -> None:
        for process in self.started if to_all else random.sample(self.started, 1):
            if process.poll() is None:
                process.send_signal(number)

    def wait(self, seconds: float = 600.0) -> list[int]:
        """Exit codes of all processes."""
        deadline = time.monotonic() + seconds
        codes = [process.wait(max(0.1, deadline - time.monotonic())) for process in self.started]
        self.started = []
        return codes

    def is_running(self) -> bool:
        return any(process.poll() is None for process in self.started)

    def steps(self) -> list[int]:
        """Steps of the checkpoints on this machine, newest first."""
        return [int(path.name.removeprefix("step-")) for path in checkpoint.find(self.kept / "checkpoints")]

    def trained(self) -> int:
        """The last step that the run told of."""
        path = self.kept / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)

    def fresh(self) -> None:
        shutil.rmtree(self.kept, ignore_errors=True)
        self.log.unlink(missing_ok=True)


def kills(folder: Path, options: argparse.Namespace) -> str:
    """SIGKILL at random moments of whole runs, inside and around saving, evaluation and upload; each goes on."""
    counts: Counter[str] = Counter()
    for processes in map(int, options.processes.split(",")):
        with place_of_runs(folder, f"kills-{processes}", processes, options) as run:
            straight = tensors_of_straight_run(folder, processes, options)
            goal = options.repeats // len(options.processes.split(","))
            while counts[f"kills of {processes}"] < goal:
                run.fresh()
                counts["runs"] += 1
                before = 0
                while not is_done(run):
                    run.start()
                    is_last = counts[f"kills of {processes}"] >= goal
                    if not is_last and killed(run, before):
                        counts[f"kills of {processes}"] += 1
                    codes = run.wait()
                    check_log(run)
                    assert not is_last or codes == [0] * processes, f"{run.log}: ended with {codes}"
                    kept, trained = max(run.steps(), default=0), run.trained()
                    # The newest checkpoint may still have been on its way to the disk.
                    counts["lost over an interval"] += trained - kept > EVERY
                    assert trained - kept <= 2 * EVERY, f"{run.kept}: step {trained} was done, step {kept} is kept"
                    assert kept >= before, f"{run.kept}: went back from step {before} to {kept}"
                    before = kept
                if counts["compared"] < options.compared:
                    counts["compared"] += 1
                    assert_equal(straight, run)
    return f"{sum(n for name, n in counts.items() if name.startswith('kills'))} kills: {dict(counts)}"


def killed(run: Run, before: int) -> bool:
    """Kill all processes, or one of several, at a random moment; whether they were still running.

    A third of the moments lie just after a checkpoint appeared, begins to be written or an evaluation began.
    """
    kind = random.choice(["any", "any", "saving", "evaluation"])
    patterns = {"saving": "checkpoints/.step-*", "evaluation": "evaluation/*", "any": "config.yml"}
    seen = {path: path.stat().st_mtime_ns for path in run.kept.glob(patterns[kind])}
    begun = time.monotonic()
    while run.is_running() and time.monotonic() - begun < 120:
        now = {path: path.stat().st_mtime_ns for path in run.kept.glob(patterns[kind]) if path.exists()}
        if any(seen.get(path) != changed for path, changed in now.items()):
            break
        time.sleep(0.002)
    time.sleep(random.expovariate(4.0) if kind == "any" else random.uniform(0, 0.1))
    is_running = run.is_running()
    run.send(signal.SIGKILL, to_all=random.random() < 0.7)
    return is_running


def stops(folder: Path, options: argparse.Namespace) -> str:
    """SIGTERM at random moments: within 20 s a checkpoint of the last step, and the code 143."""
    longest, number, places = 0.0, 0, Counter[str]()
    for processes in map(int, options.processes.split(",")):
        with place_of_runs(folder, f"stops-{processes}", processes, options) as run:
            while number < options.repeats:
                run.fresh()
                run.words = [word.replace(f"every={EVERY}", "every=1000") for word in run.words]
                run.start()
                wait_until(lambda run=run: run.trained() > 0 or not run.is_running())
                time.sleep(random.uniform(0, options.latest))
                if not run.is_running():
                    continue
                begin = time.monotonic()
                run.send(signal.SIGTERM, to_all=random.random() < 0.5)
                codes = run.wait()
                wait_until(lambda run=run: not survivors(run))
                longest, number = max(longest, time.monotonic() - begin), number + 1
                check_log(run)
                places["evaluation" if any((run.kept / "evaluation").glob("*.partial*")) else "elsewhere"] += 1
                assert set(codes) <= {143, 0, 2} or run.launcher == "mpirun", f"{run.log}: {codes}"
                assert run.launcher == "mpirun" or 143 in codes or codes == [0] * processes, f"{run.log}: {codes}"
                kept, trained = max(run.steps(), default=0), run.trained()
                assert kept >= trained, f"{run.kept}: step {trained} was done, step {kept} is kept"
        number = 0
    assert longest <= WITHIN, f"a run took {longest:.1f} s to end"
    return f"{sum(places.values())} stops, {dict(places)}, at most {longest:.1f} s each"


def survivors(run: Run) -> list[str]:
    """Numbers of the processes that still work on a run, whoever their parent is now."""
    mark = os.fsencode(run.out)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in words and b"maskrcnn" in words:
            found.append(path.parent.name)
    return found


@contextmanager
def place_of_runs(folder: Path, name: str, processes: int, options: argparse.Namespace) -> Iterator[Run]:
    """A run, with an object store beside it where uploads are wanted."""
    if not options.upload:
        yield Run(folder, str(folder / name), folder / name, options.settings, processes, options.launcher)
        return
    sys.path.insert(0, str(REPOSITORY))
    from maskrcnn.storage.location import at
    from maskrcnn.storage.staging import staging_folder
    from tests.storage.object_store import Store

    store = Store().start()
    os.environ.update({**store.variables(), "MASKRCNN_CACHE": str(folder / "cache")})
    out = f"obs://bucket/{name}"
    yield Run(folder, out, staging_folder(at(out)), options.settings, processes, options.launcher)
    store.kill()


def tensors_of_straight_run(folder: Path, processes: int, options: argparse.Namespace) -> dict:
    name = f"straight-{processes}"
    run = Run(folder, str(folder / name), folder / name, options.settings, processes, options.launcher)
    if not is_done(run):
        run.fresh()
        run.start()
        assert run.wait() == [0] * processes, f"{run.log}: an undisturbed run fails"
    return checkpoint.read(run.kept / "checkpoints" / f"step-{STEPS}").tensors


def is_done(run: Run) -> bool:
    """Whether a run has all its steps, its weights and its report."""
    return STEPS in run.steps() and (run.kept / "report.html").is_file()


def assert_equal(straight: dict, run: Run) -> None:
    found = checkpoint.read(run.kept / "checkpoints" / f"step-{STEPS}").tensors
    assert found.keys() == straight.keys(), f"{run.kept}: {sorted(found)}"
    for group, tensors in straight.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, found[group][name]), f"{run.kept}: {group}: {name} differs from a straight run"


def check_log(run: Run) -> None:
    told = run.log.read_text(errors="replace")
    assert "Traceback" not in told, f"{run.log}: a traceback"


def wait_until(holds: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


TORTURES: dict[str, Callable[[Path, argparse.Namespace], str]] = {"kills": kills, "stops": stops}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*TORTURES, "all"])
    parser.add_argument("--folder", type=Path, default=Path("runs/torture"))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--compared", type=int, default=20, help="ends that are compared bit for bit")
    parser.add_argument("--processes", default="1,2", help="numbers of processes, parted by commas")
    parser.add_argument("--launcher", choices=["none", "mpirun"], default="none")
    parser.add_argument("--upload", action="store_true", help="to an object store of the tests on this machine")
    parser.add_argument("--latest", type=float, default=10.0, help="seconds after the first step until SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the recipe: model.box_head.hidden=3700")
    options = parser.parse_args()
    random.seed(options.seed)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "tests" / "tiny.yml", folder)
    if not (folder / "shapes").is_dir():
        generate(folder / "shapes", num_train=20, num_val=4, seed=3, side=64)
    for name in TORTURES if options.name == "all" else [options.name]:
        print(f"{name}: {TORTURES[name](folder, options)}", flush=True)


if __name__ == "__main__":
    main()
