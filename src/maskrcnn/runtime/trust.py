"""Which kernels this machine's GPU is trusted with: proved once, remembered, and replaced where they fail."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from maskrcnn import ops
from maskrcnn.ops.gpu import has_triton, replace_kernels
from maskrcnn.ops.proof import OPERATORS, faults
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.verdicts import Facts, Verdict, recall, remember


class Proof(Verdict, frozen=True):
    """What proving a GPU's kernels came to."""

    faults: dict[str, str]
    """What is wrong with each operator; empty where nothing is."""


def trust_kernels(world: World, say: Callable[[str], None]) -> None:
    """Prove the kernels of this process's GPU, unless that was done before, and replace those that fail.

    say   told one sentence for each operator that is replaced
    All processes of a run call this together, and replace the same. One for each kind of GPU in a machine proves; the
    others wait for it in a collective, which ends when it does. Takes half a minute where nothing is known.
    """
    if world.device.type != "cuda" or not has_triton():
        return
    replace_kernels(())
    proof = proof_of(world.device) if _is_first_of_its_kind(world) else None
    failed = {} if proof is None else {name: fault for name, fault in proof.faults.items() if fault}
    replaced = [name for name in OPERATORS if world.any(name in failed)]
    replace_kernels(replaced)
    for name in replaced:
        say(sentence(name, failed.get(name, "failed in another process of this run"), facts(world.device)))


def proof_of(device: torch.device, *, again: bool = False) -> Proof:
    """What is known of a GPU's kernels, or a new proof; kept, unless memory was lacking or nothing can be written.

    again   also where it is known
    """
    known = None if again else known_proof(device)
    if known is not None:
        return known
    proof = Proof(facts(device), faults(device))
    if not any("OutOfMemory" in fault for fault in proof.faults.values()):  # others may use the GPU for now
        remember(proof)
    return proof


def known_proof(device: torch.device) -> Proof | None:
    """What an earlier process found of the same GPU with the same driver, libraries and kernels."""
    proof = recall(Proof, facts(device))
    return proof if proof is not None and set(proof.faults) == set(OPERATORS) else None


def sentence(operator: str, fault: str, of: Facts) -> str:
    """What a person is told of an operator that is replaced."""
    where = ", ".join(f"{name} {value}" for name, value in of.items())
    return (
        f"{operator} runs by its definition in plain PyTorch, right but slower: its kernel {fault}. Please report this "
        f"line, with what `maskrcnn doctor --prove` prints ({where})"
    )


def facts(device: torch.device) -> Facts:
    """What a verdict depends on: another GPU, driver, library or kernel is proved anew."""
    return {
        "device": torch.cuda.get_device_name(device),
        "driver": _driver(),
        "torch": str(torch.__version__),
        "triton": _version("triton"),
        "maskrcnn": _version("maskrcnn"),
        "kernels": _hash_of_kernels(),
    }


def _is_first_of_its_kind(world: World) -> bool:
    """Whether no process before this one has a GPU of the same name, in this machine."""
    names = [torch.cuda.get_device_name(index) for index in range(world.local_rank)]
    return torch.cuda.get_device_name(world.device) not in names


def _driver() -> str:
    """The driver's line where Linux shows it; elsewhere the CUDA version that torch was built for has to do."""
    with suppress(OSError):
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    return f"CUDA {torch.version.cuda}"


def _version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "not installed"


def _hash_of_kernels() -> str:
    """Changes with any line under `ops`."""
    found = hashlib.sha256()
    for folder in map(Path, ops.__path__):
        for path in sorted(folder.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]
