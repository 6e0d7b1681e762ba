"""Compiling the kernels that a network needs, before its first image: once on a machine, on two processes.

Numba compiles one kernel at a time in a process, so a second process takes its share and leaves what it made in the
cache folder, where the first one finds it.
"""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from subprocess import DEVNULL, PIPE
from threading import Lock, Thread
from typing import NamedTuple

import torch
from torch import nn

from maskrcnn import kernels
from maskrcnn.models.layers import Conv, Depthwise, GroupNorm
from maskrcnn.ops.conv1x1 import HAS_WIDE_VECTORS
from maskrcnn.ops.examples import EXAMPLES, compute, examples
from maskrcnn.runtime.distributed import World

WORTH_A_PROCESS = 4
"""Tasks from which on a second process repays the two seconds that it takes to start."""
PATIENCE = 120.0
"""Seconds that the second process may take for what it has begun when everything else is done."""

SENTENCE = "compiling kernels for this machine"

Say = Callable[[str], None]


class Task(NamedTuple):
    """One example of an operator, with the gradients of what learns or without."""

    example: str
    learn: bool

    def is_done(self) -> bool:
        """Whether this machine has all kernels of this task."""
        return any(True for _ in kernels.kept(self._mark))

    def done(self) -> None:
        """Remember that its kernels are compiled, and so those of the same task without gradients."""
        for learn in {self.learn, False}:
            kernels.keep(self._replace(learn=learn)._mark, b"")

    @property
    def _mark(self) -> str:
        return f"compiled-{kernels.digest(compute.__module__, *self)}"

    def run(self) -> None:
        """Compile the kernels that the example calls, by calling it."""
        example = next(one for one in EXAMPLES if one.name == self.example)
        if self.learn:
            compute(example, example.kernel, torch.device("cpu"))
        else:
            example.kernel(*example.inputs(torch.Generator()))


ENCODED = [Task("paste, run lengths", False)]
"""What results for a file call besides, those of evaluations too."""
DRAWN = [Task("paste, outlines", False)]
"""What results drawn on an image call besides."""


def tasks_for(model: nn.Module, dtype: torch.dtype, *, learn: bool) -> list[Task]:
    """What a network's predictions call on a CPU, or its training steps and evaluations.

    dtype   the number type of activations
    Those that take longest come first and last, where the two processes begin.
    """
    suffix = {torch.float32: "", torch.bfloat16: ", bf16"}[dtype]
    names = ["paste", "nms", f"roi_align{suffix}", "resize"]
    if learn:
        names = ["paste, run lengths", "match", "rasterize", *names]
    layers = list(model.modules())
    convolutions = [layer for layer in layers if isinstance(layer, Conv)]
    if any(isinstance(layer, Depthwise) for layer in layers):
        names.insert(0, f"depthwise{suffix}")
    if any(isinstance(layer, GroupNorm) for layer in layers):
        names.insert(0, f"group_norm{suffix}")
    if dtype == torch.float32 or any(layer.widened for layer in convolutions):
        ours = ["conv3x3, many tiles", "conv3x3, few tiles"] * any(one.kernel_size == (3, 3) for one in convolutions)
        ours += ["conv3x3, stride 2"] * learn
        ours += ["conv1x1"] * (learn or not HAS_WIDE_VECTORS)  # otherwise the library's are faster
        names = ours + names
    return [Task(name, learn) for name in names]


def all_tasks() -> list[Task]:
    """What any network calls on a CPU."""
    return [Task(example.name, True) for example in examples()]


def warm(tasks: Sequence[Task], say: Say | None = None) -> None:
    """Compile what was not yet compiled on this machine, and tell how far that is.

    say   receives whole sentences; by default stderr gets them, in place on a terminal
    """
    missing = deque(task for task in tasks if not task.is_done())
    if not missing:
        return
    progress = Progress(len(missing), say)
    other = Thread(target=_share, args=(missing, progress), daemon=True)
    is_program = getattr(sys, "frozen", False)  # then the executable is no Python, but would start the program again
    if len(missing) >= WORTH_A_PROCESS and not is_program and kernels.keep("writable", b""):
        other.start()
    for task in _taken(missing.popleft):
        task.run()
        progress.advance(task)
    if other.ident is not None:
        other.join(PATIENCE)
    progress.end()


def warm_together(tasks: Sequence[Task], world: World, say: Say | None = None) -> None:
    """Compile what runs on a CPU, in one process of each machine, while the others wait."""
    if world.device.type == "cpu":
        if world.local_rank == 0:
            warm(tasks, say)
        world.barrier()


def _taken(take: Callable[[], Task]) -> Iterator[Task]:
    """Tasks until none is left, whoever else takes some meanwhile."""
    while True:
        try:
            yield take()
        except IndexError:
            return


def _share(missing: deque[Task], progress: "Progress") -> None:
    """Have a second process work from the end of the queue; what it leaves is compiled where it is called first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", "from maskrcnn.runtime.warm import serve; serve()"]
    try:
        process = subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True)
    except OSError:
        return
    assert process.stdin is not None, "asked for"
    assert process.stdout is not None, "asked for"
    with process:
        if process.stdout.readline():  # it is ready
            for task in _taken(missing.pop):
                try:
                    print(json.dumps(task), file=process.stdin, flush=True)
                except OSError:  # it has ended
                    break
                if not process.stdout.readline():
                    break
                progress.advance(task)
        process.stdin.close()


def serve() -> None:
    """Compile what is asked for on standard input, and answer each line when that is done."""
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        Task(*json.loads(line)).run()
        print("done", file=answers, flush=True)


class Progress:
    """Tells how many tasks are done, and remembers those."""

    def __init__(self, total: int, say: Say | None) -> None:
        self._total, self._say, self._lock = total, say, Lock()
        self._done, self._begin = 0, time.monotonic()
        self._in_place = say is None and sys.stderr is not None and sys.stderr.isatty()
        kernels.announced.set()
        self._tell(f"{SENTENCE}, 0 of {total}")

    def advance(self, task: Task) -> None:
        """Remember and count a task that is done, in whichever process."""
        task.done()
        with self._lock:
            self._done += 1
            self._tell(f"{SENTENCE}, {self._done} of {self._total}")

    def end(self) -> None:
        """Say how long all of them took."""
        self._tell(f"kernels compiled in {time.monotonic() - self._begin:.1f} s")
        if self._in_place:
            kernels.tell("\n")

    def _tell(self, sentence: str) -> None:
        if self._say is not None:
            self._say(sentence)
        else:
            kernels.tell(f"\r\x1b[K{sentence}" if self._in_place else f"{sentence}\n")
