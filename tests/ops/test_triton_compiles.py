"""Every Triton kernel becomes machine code for the GPUs it is for, as its launcher calls it; no GPU is needed.

The interpreter, in which the other tests run kernels, takes more than the compiler does. This file is also a program:
in a process of its own, where kernels are compiled in earnest, it calls the launchers with CPU tensors of real types,
compiles for a compute capability instead of launching, and prints what each kernel takes.
"""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]
KERNELS = REPOSITORY / "src" / "maskrcnn" / "ops"
TARGETS = (pytest.param(80, marks=pytest.mark.exhaustive), 90)
"""Compute capabilities: A100, and H100 and H200."""
FEW = 8
"""Bytes of stack that are no fault: for an A100 two registers are saved once, so that a twelfth block fits."""
NUM_ANCHORS = 268_569
"""Of a picture of 800 x 1344."""


def flags(*shape):
    return torch.zeros(shape, dtype=torch.bool)


def numbers(*shape):
    return torch.zeros(shape, dtype=torch.int64)


def nms(triton):
    for count, num_keep in ((8819, 1000), (4000, 100)):
        triton.nms(torch.zeros(2, count, 4), numbers(2, count), flags(2, count), 0.7, num_keep)


def match(triton):
    objects = torch.zeros(2, 16, 4), flags(2, 16), flags(2, 16)
    triton.match(torch.zeros(NUM_ANCHORS, 4).expand(2, -1, -1), *objects, 0.7, 0.3, True)
    triton.match(torch.zeros(2, 1016, 4), *objects, 0.5, 0.5, False)
    triton.match(torch.zeros(1, 1001, 4), *(part[:1, :1] for part in objects), 0.5, 0.5, True)


def roi_align(triton):
    boxes, images, strides = torch.zeros(64, 4), numbers(64), (4, 8, 16, 32)
    sizes = [(48, 80), (24, 40), (12, 20), (6, 10)]
    for dtype, output_size, samples, half_pixel in (
        (torch.float32, 7, 2, True),
        (torch.bfloat16, 14, 2, True),
        (torch.bfloat16, 7, 0, False),
    ):
        settings = strides, samples, half_pixel, 224, 4
        pyramid = [torch.zeros(2, 256, *size, dtype=dtype) for size in sizes]
        triton.forward(pyramid, boxes, images, strides, output_size, *settings[1:])
        grad = torch.zeros(64, 256, output_size, output_size, dtype=dtype)
        for backward in (triton.backward, triton.backward_deterministic):
            backward(grad, boxes, images, 2, [side for size in sizes for side in size], *settings)


def rasterize(triton):
    triton.rasterize(torch.zeros(2, 4096, 4), numbers(2, 17), torch.zeros(256, 4), numbers(256), numbers(256), 28)


def paste(triton):
    for draw in (triton.paste, triton.paste_runs):
        draw(torch.zeros(100, 28, 28), torch.zeros(100, 4), 800, 1333, 0.5)


LAUNCHES = {launch.__name__: launch for launch in (nms, match, roi_align, rasterize, paste)}
"""Calls the launchers of ops/<name>/triton.py as the model does."""


def main(capability):
    """Print a line of JSON for each compiled kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction

    class Device:
        """A GPU that can be compiled for."""

        def get_current_target(self):
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self):
            return 0

        def get_current_stream(self, device):
            return 0

    def compile_only(kernel, *arguments, grid, warmup, **named):
        compiled = run(kernel, *arguments, grid=grid, warmup=True, **named)
        if compiled.hash not in seen:
            seen.add(compiled.hash)
            print(json.dumps({"kernel": f"{op}/{kernel.__name__}", **resources(compiled)}))

    def resources(compiled):
        """Registers of a thread, and bytes of its stack, which spilled registers take."""
        code = Path(compiled.metadata_group[f"{compiled.name}.cubin"])
        tool = triton.knobs.nvidia.cuobjdump.path
        told = subprocess.run([tool, "-res-usage", code], capture_output=True, text=True, check=True).stdout
        found = dict(re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told))
        return {"registers": int(found["REG"]), "stack": int(found["STACK"]) + int(found["LOCAL"])}

    seen, run, empty = set(), JITFunction.run, torch.empty
    JITFunction.run = compile_only
    torch.empty = lambda *shape, **named: empty(*shape, **named).zero_()  # what no kernel fills must not be arbitrary
    triton.runtime.driver.set_active(Device())
    for op, launch in LAUNCHES.items():
        launch(importlib.import_module(f"maskrcnn.ops.{op}.triton"))


@pytest.fixture(scope="module", params=TARGETS)
def compiled(request, tmp_path_factory):
    """What the program printed for a GPU."""
    pytest.importorskip("triton", reason="Triton is not installed")
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = {"PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    cache = {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("kernels"))}
    command = [sys.executable, __file__, str(request.param)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean | paths | cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def kernels(path):
    """Names of the functions that are launched: those of the compiled ones that no other of them calls."""
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    jitted = [node for node in functions if any("jit" in ast.unparse(mark) for mark in node.decorator_list)]
    used = {name.id for node in jitted for name in ast.walk(node) if isinstance(name, ast.Name)}
    return {f"{path.parent.name}/{node.name}" for node in jitted} - {f"{path.parent.name}/{name}" for name in used}


def test_every_kernel_compiles(compiled):
    every = set().union(*(kernels(path) for path in KERNELS.glob("*/triton.py")))
    assert len(every) >= len(LAUNCHES)
    assert {one["kernel"] for one in compiled} == every


def test_registers_suffice(compiled):
    assert [one for one in compiled if one["stack"] > FEW] == []


if __name__ == "__main__":
    main(int(sys.argv[1]))
