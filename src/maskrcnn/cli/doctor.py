"""`maskrcnn doctor`: what runs here, and what is missing."""

import importlib
import pkgutil
import platform
import re
from collections.abc import Iterator
from typing import Annotated

from typer import Option

NOT_INSTALLED = "not installed, so its dependencies are unknown; pip install -e . in the repository"

Fact = tuple[str, str]


def doctor(
    prove: Annotated[bool, Option("--prove", help="Run a GPU's kernels beside their definitions, again.")] = False,
    warm: Annotated[bool, Option("--warm", help="Compile all CPU kernels now, into the cache: for images.")] = False,
) -> None:
    """Say what runs on this machine, and what is missing."""
    if warm:
        from maskrcnn.runtime.warm import all_tasks
        from maskrcnn.runtime.warm import warm as compile_all

        compile_all(all_tasks())
        if not all(task.is_done() for task in all_tasks()):
            raise OSError("compiled kernels could not be kept, so that each process compiles them again")
    for name, value in facts(prove=prove):
        print(f"{name:<24}{value}", flush=True)


def facts(*, prove: bool = False) -> Iterator[Fact]:
    """(name, what was found) of everything that decides how fast and how exactly this machine works.

    prove   try the kernels of each GPU now, also where that was done before
    """
    yield "maskrcnn", _version("maskrcnn") or NOT_INSTALLED
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield from _devices()
    yield from _kernels()
    yield from _proofs(again=prove)
    yield from _folders()
    yield from _packages()


def _devices() -> Iterator[Fact]:
    import torch

    from maskrcnn.runtime.devices import choose_device, name_of

    yield "device auto", str(choose_device("auto", 0))
    yield "cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, bf16 {_bf16_on_cpu()}"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "in hardware" if properties.major >= 8 else "emulated; fp16 is used"
        yield f"gpu {index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, bf16 {bf16}"
    other = torch.accelerator.current_accelerator(check_available=True)
    if other is not None and other.type != "cuda":
        yield other.type, f"{name_of(other)}, by the operators' definitions"
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        yield "gpu", f"none; torch {torch.__version__} is {build}"


def _bf16_on_cpu() -> str:
    from maskrcnn.runtime.precision import cpu_has_bf16

    return "in hardware" if cpu_has_bf16() else "not in hardware: mixed precision stays in float32"


def _kernels() -> Iterator[Fact]:
    from maskrcnn import ops

    for package in pkgutil.iter_modules(ops.__path__):
        if package.ispkg:
            op = importlib.import_module(f"maskrcnn.ops.{package.name}")
            written = {module.name for module in pkgutil.iter_modules(op.__path__)}
            on_gpu = "Triton" if "triton" in written and _version("triton") else "PyTorch (reference.py)"
            on_cpu = "Numba" if "cpu" in written else "PyTorch (reference.py)"
            yield f"op {package.name}", f"{on_cpu} on the CPU, {on_gpu} on other devices"


def _proofs(*, again: bool) -> Iterator[Fact]:
    """Whether each GPU's kernels compute what defines them."""
    import torch

    from maskrcnn.ops.gpu import has_triton
    from maskrcnn.runtime.trust import known_proof, proof_of

    num_gpus = torch.cuda.device_count()
    for index in range(num_gpus if num_gpus and has_triton() else 0):  # nobody without one misses Triton
        device, name = torch.device("cuda", index), f"kernels on gpu {index}"
        proof = proof_of(device, again=True) if again else known_proof(device)
        if proof is None:
            yield name, "not proved yet; the first training or prediction does, or maskrcnn doctor --prove"
            continue
        for operator, fault in proof.faults.items():
            if fault:
                yield name, f"{operator} is replaced by its definition: its kernel {fault}"
        agreeing = [operator for operator, fault in proof.faults.items() if not fault]
        yield name, f"agree with their definitions: {', '.join(agreeing) or 'none'}"


def _folders() -> Iterator[Fact]:
    from maskrcnn.files import cache_folder
    from maskrcnn.recipes import recipe_folder

    yield "recipes", str(recipe_folder())
    try:
        yield "weights, annotations", f"{cache_folder()} (MASKRCNN_CACHE moves it)"
    except RuntimeError as error:  # a user without a home
        yield "weights, annotations", f"nowhere: {error} MASKRCNN_CACHE names a folder"
    yield "compiled kernels", _compiled_kernels()


def _compiled_kernels() -> str:
    """Where compiled kernels lie, and whether all are there."""
    from maskrcnn.kernels import folders
    from maskrcnn.runtime.warm import all_tasks

    tasks = all_tasks()
    done = sum(task.is_done() for task in tasks)
    where = ", ".join(map(str, folders())) or "nowhere yet"
    return where if done == len(tasks) else f"{where}; {done} of {len(tasks)} groups; --warm compiles all"


def _packages() -> Iterator[Fact]:
    """The version of each package that the project names, and the command that brings a missing one."""
    from importlib import metadata

    lines = metadata.requires("maskrcnn") if _version("maskrcnn") else None
    for line in lines or ():
        requirement, _, marker = line.partition(";")
        name = re.split(r"[^\w.-]", requirement.strip())[0]
        extra = re.search(r"extra == ['\"]([\w-]+)", marker)
        if extra and extra[1] == "test":
            continue
        install = f"maskrcnn[{extra[1]}]" if extra else requirement.strip()
        yield name, _version(name) or f"missing; pip install '{install}'"


def _version(name: str) -> str | None:
    from importlib import metadata  # 14 ms that help does not pay

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
