"""Whether kernels compute on a device what defines them: `python -m maskrcnn.ops.proof DEVICE OPERATOR...`

Kernels are tried in a process of their own. One that touches memory that is not there spoils every later call of its
process, and one that hangs cannot be stopped in it. Definitions are computed on the CPU, since a device in doubt is no
referee of itself.
"""

import subprocess
import sys
from collections.abc import Sequence

import msgspec
import torch

from maskrcnn.ops.examples import compute, difference, examples

OPERATORS = ("match", "nms", "paste", "rasterize", "roi_align")
"""Operators with a Triton kernel."""
PATIENCE = 240.0
"""Seconds for all that one process tries, which compiles the kernels first. Five hangs take less than the half hour
after which the other processes of a run give up."""
COMMAND = (sys.executable, "-m", "maskrcnn.ops.proof")
READY = "device"
"""Name of what is told first: a sum on the device, without any kernel of ours."""


def faults(
    device: torch.device,
    operators: Sequence[str] = OPERATORS,
    command: Sequence[str] = COMMAND,
    patience: float = PATIENCE,
) -> dict[str, str]:
    """What is wrong with each operator on a device, as the rest of a sentence; empty where nothing is.

    command    starts what tries them, here replaced in tests
    patience   seconds after which it is stopped
    A process ends at the first fault, and another one tries the rest. Where none can use the device, since that is
    lent to this process alone or this is no plain Python, they are tried here.
    """
    found: dict[str, str] = {}
    while rest := [name for name in operators if name not in found]:
        told, end = _ask([*command, str(device), *rest], patience)
        if READY not in told:
            return found | {name: fault(name, device) for name in rest}
        answers = {name: told[name] for name in rest if name in told}
        found |= answers or {rest[0]: f"brought its process down, which {end}"}
    return found


def fault(operator: str, device: torch.device) -> str:
    """What is wrong with an operator on a device, tried in this process."""
    try:
        for example in examples(operator):
            found = compute(example, example.kernel, device)
            apart = difference(found, compute(example, example.definition, torch.device("cpu")))
            if apart > example.tolerance:
                return f"differs by {apart:.1e} where {example.tolerance:.0e} is allowed ({example.name})"
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return ""


def _ask(command: Sequence[str], patience: float) -> tuple[dict[str, str], str]:
    """What a process told before it ended, and how it ended."""
    if getattr(sys, "frozen", False):  # the executable is no Python, but would start the program again
        return {}, ""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except (OSError, TypeError):  # no executable, or none that Python knows
        return {}, ""
    with process:
        try:
            output, _ = process.communicate(timeout=patience)
            end = f"ended with code {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            end = f"had not ended after {patience:.0f} s"
    return dict(line for line in map(_read, output.splitlines()) if line is not None), end


def _read(line: bytes) -> tuple[str, str] | None:
    """What was told in a line; libraries may print others."""
    try:
        return msgspec.json.decode(line, type=tuple[str, str])
    except msgspec.DecodeError:
        return None


def _tell(name: str, found: str) -> None:
    print(msgspec.json.encode((name, found)).decode(), flush=True)


def main(words: Sequence[str]) -> None:
    """Try operators, one after the other, up to the first with a fault, and tell of each in a line of JSON."""
    device = torch.device(words[0])
    if float(torch.ones(2, device=device).sum()) == 2.0:
        _tell(READY, "")
    for operator in words[1:]:
        found = fault(operator, device)
        _tell(operator, found)
        if found:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
