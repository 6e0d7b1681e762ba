"""Tensors from files of any framework, recognised by their first bytes. Nothing that a file names is ever run."""

import re
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskrcnn.convert.mindspore_file import read_ckpt
from maskrcnn.convert.pickle_check import Refused, check_pickle, printable
from maskrcnn.convert.pickles import read_pickle
from maskrcnn.weights import OF_OTHERS

SUFFIXES = (*OF_OTHERS, ".safetensors")
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
OWN_RECIPE = "maskrcnn_recipe"
"""Key in `meta` for the recipe, in files that we write for another system."""
INSIDE = ("state_dict", "model", "model_ema", "blobs")
"""Keys for the weights, in checkpoints that hold more than weights."""
MOST_COPIES = 4
"""Largest ratio of the bytes of all tensors to those of the file: shared and expanded tensors take little of it."""
TYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64),
}
NEEDED = (
    r"(torch(\.(_utils|_tensor|cuda|sparse|storage|serialization|nn\.parameter))?|collections) |argparse Namespace$"
)
ELSEWHERE = rf"(?s)(?!{NEEDED}).*"
"""Pattern of functions that tensors do not need; torch would call some, which could fill the memory."""
ADVICE = "nothing of it was run. Where it was made, save only tensors: torch.save(model.state_dict(), 'weights.pth')"
OLD_PICKLES = 5
"""Number of pickles at the start of a file of torch before 1.6; the data follows them."""


class WeightsFile(NamedTuple):
    """Content of a file of weights."""

    tensors: dict[str, Tensor]
    hint: str
    """File name and, if any, configuration in the file: they may tell what shapes cannot."""
    classes: tuple[str, ...] = ()
    """Class names in label order, where the file has them, as MMDetection's do."""
    recipe: str = ""
    """Text of our recipe, in files that we wrote for another system."""


def read_file(path: str | Path) -> WeightsFile:
    """Read the named tensors of a .safetensors, .pth, .pkl or .ckpt file.

    Raises FileNotFoundError where there is no file, and ValueError where it holds no tensors, or code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (working directory {Path.cwd()}); expected {', '.join(SUFFIXES)}")
    content = _read(path)
    tensors = dict(_named_tensors(path, content))
    if not tensors:
        raise ValueError(f"{path} holds no named tensors; expected the weights of a network")
    meta = content["meta"] if isinstance(content.get("meta"), Mapping) else {}
    recipe = meta[OWN_RECIPE] if isinstance(meta.get(OWN_RECIPE), str) else ""
    return WeightsFile(tensors, f"{path.stem} {_config(meta)}".strip(), _classes(meta), recipe)


def _read(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(4)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            reason = printable(str(error))
            raise ValueError(f"{path} is not a complete safetensors file ({reason}); copy it again") from error
    if start == ZIP or (start[:1] == PICKLE and suffix != ".pkl"):
        return _read_torch(path, is_zip=start == ZIP)
    return read_ckpt(path) if suffix == ".ckpt" else read_pickle(path)


def _read_torch(path: Path, is_zip: bool) -> Any:
    """Read a file with torch's loader of plain tensors, after checking that it does not expand in memory.

    `argparse.Namespace`, in which torchvision's training keeps its settings, is admitted: it has nothing but
    attributes and runs no code.
    """
    try:
        _check_zip(path) if is_zip else _check_old(path)
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Refused as error:
        raise ValueError(f"{path} is not a file of plain tensors: it {error}; {ADVICE}") from None
    except Exception as error:  # torch raises half a dozen kinds here; none of them has run foreign code
        raise ValueError(_sentence(path, str(error) or type(error).__name__)) from error


def _check_zip(path: Path) -> None:
    """Check a zip's directory, since torch would inflate compressed parts, then its pickles; see `check_pickle`."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise zipfile.BadZipFile(
                "a part of it is compressed, as in TorchScript programs and never in files of tensors"
            )
        if sum(entry.file_size for entry in entries) > size:
            raise zipfile.BadZipFile(f"its parts claim more bytes than the {size} that it has")
        for entry in entries:
            if entry.filename.rpartition("/")[2] == "data.pkl":
                del entry.CRC  # torch writes a wrong one where it is set to save time
                check_pickle(BytesIO(archive.read(entry)), names=ELSEWHERE)


def _check_old(path: Path) -> None:
    with path.open("rb") as stream:
        for _ in range(OLD_PICKLES):
            check_pickle(stream, names=ELSEWHERE)


def _sentence(path: Path, reason: str) -> str:
    """Rephrase torch's error, without colours and without its advice to load unsafely."""
    asked = re.search(r"GLOBAL (\S+)", reason)
    if asked is not None:
        return f"{path} is not a file of plain tensors: it asks for {printable(asked[1][:80])}; {ADVICE}"
    told = re.search(r"error: (.+)", reason)
    short = told[1] if told is not None else reason.strip().splitlines()[0].partition(". ")[0]
    return f"{path} is not a file of plain tensors ({printable(short[:200])}); nothing of it was run, copy it again"


def _named_tensors(path: Path, content: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a flat dictionary, or of the one in which a checkpoint keeps its weights."""
    if not isinstance(content, Mapping):
        return
    inner = next((content[name] for name in INSIDE if isinstance(content.get(name), Mapping)), content)
    size, left = path.stat().st_size, MOST_COPIES * path.stat().st_size
    for name, value in inner.items():
        is_array = isinstance(value, np.ndarray) and value.dtype != object
        if not isinstance(name, str) or not (is_array or isinstance(value, Tensor)):
            continue
        tensor = torch.from_numpy(value) if is_array else value
        if not name.isprintable():
            raise ValueError(f"{path} has a tensor named {name[:80]!r}; expected names without control characters")
        what = _odd(tensor)
        if what:
            raise ValueError(
                f"{path}: expected {name} to be a plain tensor of numbers, received {what}; save it as one"
            )
        left -= tensor.numel() * tensor.element_size()
        if left < 0:
            raise ValueError(
                f"{path}: expected tensors of at most {MOST_COPIES} times the {size} bytes of the file, but with "
                f"{name} they have more: it is expanded or shared; save clones of the tensors"
            )
        yield name if is_array else name.removeprefix("module."), tensor


def _odd(tensor: Tensor) -> str:
    """Say what kind of tensor this is, if not plain numbers in memory; otherwise return an empty text."""
    if tensor.is_quantized:
        return "a quantised one"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "a sparse or nested one"
    if tensor.device.type != "cpu":
        return f"one on the device {tensor.device.type}, without data"
    return "" if tensor.dtype in TYPES else f"one of {tensor.dtype}"


def _config(meta: Mapping[str, Any]) -> str:
    """Return the configuration in MMDetection's checkpoints, as text."""
    return next((meta[name] for name in ("config", "cfg") if isinstance(meta.get(name), str)), "")


def _classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in MMDetection's checkpoints, of version 2 or 3."""
    dataset = meta["dataset_meta"] if isinstance(meta.get("dataset_meta"), Mapping) else {}
    candidates = (meta.get("CLASSES"), dataset.get("CLASSES"), dataset.get("classes"))
    names = next((names for names in candidates if isinstance(names, list | tuple) and names), ())
    return tuple(names) if all(isinstance(name, str) for name in names) else ()
