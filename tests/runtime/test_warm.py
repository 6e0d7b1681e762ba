"""Kernels are compiled before the first picture, with progress, by two processes, once on a machine."""

import errno
import subprocess
import sys
from itertools import count

import pytest
import torch

from maskrcnn import kernels
from maskrcnn.config import Backbone, Model, Neck
from maskrcnn.models.layers import Conv, Depthwise
from maskrcnn.models.mask_rcnn import build
from maskrcnn.runtime import warm
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.warm import Task, all_tasks, tasks_for, warm_together

CPU = torch.device("cpu")
TELL = kernels.tell
"""What other tests do without."""
NOTHING_NEW = """
import sys
import torch
from numba.core.dispatcher import Dispatcher
from maskrcnn.config import Backbone, Model, Neck
from maskrcnn.models.layers import fold
from maskrcnn.bench.setup import trained_like
from maskrcnn.structures import ImageBatch
from maskrcnn.instances import from_detections
from maskrcnn.ops.resize import resize
from maskrcnn.runtime.warm import ENCODED, tasks_for
from maskrcnn.view import View

def compiled():
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("maskrcnn")]
    kernels = {value for names in modules for value in names.values() if isinstance(value, Dispatcher)}
    return {(kernel.py_func.__qualname__, str(types)) for kernel in kernels for types in kernel.overloads}

backbone, norm, dtype = sys.argv[1], sys.argv[2], getattr(torch, sys.argv[3])
model = trained_like(Model(backbone=Backbone(kind=backbone, norm=norm), neck=Neck(channels=64)), 3).eval()
fold(model, dtype)
for task in [*tasks_for(model, dtype, learn=False), *ENCODED]:
    task.run()
before = compiled()
levels, size = torch.randint(0, 256, (1, 100, 130, 3), dtype=torch.uint8), torch.tensor([[192, 256]])
with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
    raw = torch.tensor([[90, 120]])
    pixels = resize(levels, raw, View.whole(raw, size), bucket=(192, 256), mean=[0.0] * 3, std=[1.0] * 3)
    found = model(ImageBatch(pixels, size.float()))
[result] = from_detections(found, View.whole(size, size), size, ["a", "b", "c"], [1, 2, 3])
result.masks, result.rle, result.to_coco()
print(sorted(compiled() - before), len(result))
"""
"""Counts what a prediction compiles that the tasks of its network do not."""


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No kernel was compiled here yet, no task takes time, and people are told."""
    monkeypatch.setattr(kernels, "tell", TELL)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(Task, "run", lambda self: None)
    monkeypatch.setattr(warm, "WORTH_A_PROCESS", 100)


@pytest.mark.parametrize(
    ("backbone", "norm", "dtype"),
    [
        ("resnet50", "frozen_batch_norm", "float32"),
        ("resnet50", "frozen_batch_norm", "bfloat16"),
        ("resnet18", "group_norm", "float32"),
    ],
)
def test_after_its_tasks_a_network_compiles_nothing_more(backbone, norm, dtype):
    command = [sys.executable, "-c", NOTHING_NEW, backbone, norm, dtype]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    new, number = done.stdout.rsplit(maxsplit=1)
    assert int(number) > 0
    assert new == "[]"


def test_progress_is_told_once_and_a_second_time_nothing_is_to_do(empty_cache):
    told = []
    warm.warm(all_tasks(), told.append)
    total = len(all_tasks())
    assert told[:-1] == [f"compiling kernels for this machine, {n} of {total}" for n in range(total + 1)]
    assert told[-1].startswith("kernels compiled in ")
    warm.warm(all_tasks(), told.append)
    warm.warm([task._replace(learn=False) for task in all_tasks()], told.append)
    assert len(told) == total + 2


def test_without_a_terminal_stderr_has_plain_lines(empty_cache, capsys):
    warm.warm([Task("nms", False)])
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines == [f"compiling kernels for this machine, {n} of 1" for n in (0, 1)]
    assert last.startswith("kernels compiled in ")


class Full:
    """A stderr that takes nothing."""

    def isatty(self):
        return False

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stderr", [None, Full()])
def test_where_nobody_can_be_told_kernels_are_compiled_all_the_same(stderr, empty_cache, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    kernels.announced.clear()
    kernels.announce()
    warm.warm([Task("nms", False)])
    assert Task("nms", False).is_done()


def test_on_a_terminal_one_line_changes_in_place(empty_cache, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    warm.warm([Task("nms", False), Task("resize", False)])
    parts = capsys.readouterr().err.split("\r\x1b[K")
    assert parts[1:4] == [f"compiling kernels for this machine, {n} of 2" for n in (0, 1, 2)]
    assert parts[4].startswith("kernels compiled in ")


def test_forward_alone_does_not_stand_for_gradients(empty_cache):
    task = Task("conv1x1", False)
    task.done()
    assert task.is_done()
    assert not task._replace(learn=True).is_done()


def test_a_second_process_takes_its_share(tmp_path, monkeypatch):
    """The first one waits, so that all but its own are of the second."""
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(warm, "WORTH_A_PROCESS", 2)
    tasks = [Task(name, False) for name in ("resize, whole levels", "conv1x1", "nms")]
    own = []

    def wait(task):
        own.append(task)
        while not tasks[2].is_done():
            pass

    monkeypatch.setattr(Task, "run", wait)
    told = []
    warm.warm(tasks, told.append)
    assert 1 <= len(own) < 3
    assert all(task.is_done() for task in tasks)
    kept = {path.name.partition("-")[0] for path in (tmp_path / "kernels").iterdir()}
    assert "ops.nms.cpu._sweep" in kept


def test_a_frozen_program_is_not_started_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(warm.sys, "frozen", True, raising=False)
    monkeypatch.setattr(warm.subprocess, "Popen", lambda *_, **__: pytest.fail("another process"))
    monkeypatch.setattr(Task, "run", lambda self: None)
    warm.warm(all_tasks(), lambda sentence: None)
    assert all(task.is_done() for task in all_tasks())


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_without_a_second_process_the_first_does_all(program, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(warm.sys, "executable", program)
    ran = count()
    monkeypatch.setattr(Task, "run", lambda self: next(ran))
    warm.warm(all_tasks(), lambda sentence: None)
    assert next(ran) + 1 >= len(all_tasks())


def test_one_process_of_a_machine_compiles_and_all_wait(empty_cache, monkeypatch):
    calls = []
    monkeypatch.setattr(warm, "warm", lambda tasks, say: calls.append("compiled"))
    monkeypatch.setattr(World, "barrier", lambda self: calls.append(f"waited as {self.local_rank}"))
    for rank in range(2):
        warm_together(all_tasks(), World(CPU, rank, 2, rank))
    assert calls == ["compiled", "waited as 0", "waited as 1"]


def names(tasks: list[Task]) -> set[str]:
    return {task.example for task in tasks}


@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "depthwise"), (torch.bfloat16, "depthwise, bf16")])
def test_depthwise_convolutions_have_kernels_of_their_own(dtype, name):
    assert name in names(tasks_for(Depthwise(16, 3), dtype, learn=False))
    assert not any("depthwise" in one for one in names(tasks_for(Conv(16, 16, 1), dtype, learn=True)))


def test_training_needs_more_than_prediction():
    model = build(Model(backbone=Backbone(kind="resnet18", width=16, pretrained=""), neck=Neck(channels=32)), 2)
    learn, predict = (
        {task.example for task in tasks_for(model, torch.float32, learn=learn)} for learn in (True, False)
    )
    assert predict < learn
    assert learn - predict - {"conv1x1"} == {"match", "rasterize", "conv3x3, stride 2", "paste, run lengths"}
    assert {task.example for task in tasks_for(model, torch.bfloat16, learn=True)} <= {
        task.example for task in all_tasks()
    }
    assert kernels.digest("maskrcnn.runtime.warm", 1) != kernels.digest("maskrcnn.runtime.warm", 2)
