"""Kernels on trial: stand-ins that agree, differ, raise, crash and hang."""

import importlib
import pkgutil
import sys

import pytest
import torch

from maskrcnn import ops
from maskrcnn.ops import examples, gpu, proof
from maskrcnn.ops.examples import Example

CPU = torch.device("cpu")


def test_every_triton_kernel_is_proved():
    folders = [package.name for package in pkgutil.iter_modules(ops.__path__) if package.ispkg]
    paths = {name: importlib.import_module(f"maskrcnn.ops.{name}").__path__ for name in folders}
    with_triton = {name for name, path in paths.items() if "triton" in {m.name for m in pkgutil.iter_modules(path)}}
    assert set(proof.OPERATORS) == with_triton


@pytest.fixture
def stand_in(monkeypatch):
    """Replaces all examples by one of `nms` that doubles, with this kernel."""

    def replace(kernel):
        one = Example(
            "twice", "nms", lambda generator: (torch.tensor([1.0, 2.0]),), kernel, lambda x: 2 * x, 1e-4, (0,)
        )
        monkeypatch.setattr(examples, "EXAMPLES", (one,))

    return replace


def raises(x):
    raise RuntimeError("illegal instruction\nat line 7")


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (lambda x: x + x, ""),
        (lambda x: 2 * x + 0.04, "differs by 1.0e-02 where 1e-04 is allowed (twice)"),
        (lambda x: 2 * x.detach() + 0 * x, "differs by 1.0e+00 where 1e-04 is allowed (twice)"),  # no gradient
        (lambda x: 2 * x / 0 * 0, "differs by inf where 1e-04 is allowed (twice)"),
        (raises, "raised RuntimeError: illegal instruction"),
    ],
    ids=["good", "a hundredth off", "no gradient", "NaN", "raises"],
)
def test_a_kernel_that_differs_or_raises_has_a_fault_that_says_by_how_much(stand_in, kernel, expected):
    stand_in(kernel)
    assert proof.fault("nms", CPU) == expected


def told(*lines, then=""):
    """A command in place of the child: it prints lines, whatever it is asked, and then does something."""
    return [sys.executable, "-c", "\n".join([*(f"print({line!r}, flush=True)" for line in lines), then])]


READY = '["device",""]'


def test_a_real_process_proves_real_kernels():
    assert proof.faults(CPU, ["nms", "match"]) == {"nms": "", "match": ""}


def test_a_crash_is_the_fault_of_the_operator_at_hand_and_the_rest_is_tried_in_a_new_process():
    script = """
import os, sys
print('["device",""]', 'noise of a library', sep="\\n", flush=True)
for name in sys.argv[2:]:
    if name == "paste":
        os.abort()
    print(f'["{name}",""]', flush=True)
"""
    found = proof.faults(CPU, ["nms", "paste", "match"], [sys.executable, "-c", script])
    assert found == {"nms": "", "paste": "brought its process down, which ended with code -6", "match": ""}


def test_a_hang_is_stopped_and_is_the_fault_of_the_operator_at_hand():
    command = told(READY, then="import time; time.sleep(60)")
    found = proof.faults(CPU, ["nms"], command, patience=1.0)
    assert found == {"nms": "brought its process down, which had not ended after 1 s"}


def test_a_fault_that_was_told_is_kept_and_the_others_are_tried_again():
    command = told(READY, '["nms","raised RuntimeError: no"]')
    found = proof.faults(CPU, ["nms", "match"], command)
    assert found["nms"] == "raised RuntimeError: no"
    assert found["match"].startswith("brought its process down")


@pytest.mark.parametrize("command", [["/nothing/here"], told(then="raise SystemExit(3)")], ids=["none", "no device"])
def test_where_no_process_can_use_the_device_kernels_are_tried_in_this_one(stand_in, command):
    stand_in(lambda x: 3 * x)
    assert proof.faults(CPU, ["nms"], command)["nms"].startswith("differs by 5.0e-01")


def test_the_child_ends_with_the_first_fault(stand_in, capsys):
    stand_in(raises)
    proof.main(["cpu", "match", "nms", "paste"])  # without examples nothing is wrong with match
    lines = capsys.readouterr().out.splitlines()
    assert lines == [READY, '["match",""]', '["nms","raised RuntimeError: illegal instruction"]']


@pytest.fixture
def all_kernels(monkeypatch):
    monkeypatch.setattr(gpu, "has_triton", lambda: True)
    yield
    gpu.replace_kernels(())


def test_a_replaced_operator_uses_its_definition_and_the_others_their_kernels(all_kernels):
    gpu.replace_kernels(["nms"])
    assert [gpu.uses_kernel(name) for name in ("nms", "match")] == [False, True]
    gpu.replace_kernels(["match"])
    assert [gpu.uses_kernel(name) for name in ("nms", "match")] == [True, False]


def test_the_choice_can_be_traced_without_looking_for_triton(monkeypatch):
    def look():
        raise AssertionError("cannot be traced")

    monkeypatch.setattr(gpu, "has_triton", look)

    @torch.compile(backend="eager", fullgraph=True)
    def chosen(x):
        return x + 1 if gpu.uses_kernel("nms") else x - 1

    try:
        assert chosen(torch.zeros(1)).item() == 1
        gpu.replace_kernels(["nms"])
        assert chosen(torch.zeros(1)).item() == -1
    finally:
        gpu.replace_kernels(())


def test_a_frozen_program_is_not_started_again(stand_in, monkeypatch):
    """The operator is tried in this process."""
    stand_in(raises)
    monkeypatch.setattr(proof.sys, "frozen", True, raising=False)
    monkeypatch.setattr(proof.subprocess, "Popen", lambda *_, **__: pytest.fail("another process"))
    assert proof.faults(CPU, ["nms"]) == {"nms": "raised RuntimeError: illegal instruction"}
