"""What computed the numbers."""

import platform
import shutil
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import maskrcnn
from maskrcnn.runtime.devices import name_of

Facts = dict[str, str]


def device_name(device: torch.device) -> str:
    """Name of a device as its maker calls it."""
    if device.type != "cpu":
        return name_of(device)
    return _cpu_name() or platform.processor() or platform.machine()


def facts(device: torch.device) -> Facts:
    """Everything besides the settings that decides a speed."""
    found = {"device": device_name(device)}
    if device.type == "cuda":
        found |= {"driver": _driver(), "CUDA": torch.version.cuda or "", "triton": _version("triton")}
    else:
        found["threads"] = str(torch.get_num_threads())
    return found | {
        "torch": str(torch.__version__),
        "torchvision": _version("torchvision"),
        "python": platform.python_version(),
        "commit": commit(),
        "date": date.today().isoformat(),
    }


def commit() -> str:
    """Commit of the source tree that runs, and whether it was changed since."""
    folder = Path(maskrcnn.__path__[0])
    head = _output("git", "-C", str(folder), "rev-parse", "--short", "HEAD")
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no", ".")
    return (head + (" and changes" if changes else "")) if head else "unknown"


def _driver() -> str:
    lines = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    return lines[0] if lines else "unknown"


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _output(*command: str) -> str:
    """What a program says; nothing where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
