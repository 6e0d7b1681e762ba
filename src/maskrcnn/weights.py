"""The weights folder: `model.safetensors`, `config.yml` (resolved recipe with classes), `metrics.json`, and
`checksums.json`, by which a damaged one of them is noticed."""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskrcnn.checksums import check_files, write_checksums
from maskrcnn.config import Recipe
from maskrcnn.files import listing, sync, writing
from maskrcnn.recipes import read_recipe, write_recipe
from maskrcnn.run_folder import AVERAGE, BEST, CHECKPOINTS, CHECKSUMS, CONFIG, LAST, METRICS, MODEL, STATE, is_run
from maskrcnn.sentences import some_of, typed

BESIDE = f"put the {CONFIG} that was written with them beside them"

LARGEST = 1e15
"""Number that no weight and no variance of a network comes near; one of a damaged file is mostly some 1e36."""
OF_OTHERS = (".pth", ".pt", ".pkl", ".ckpt")
"""Endings of checkpoints of other systems."""


class Weights(NamedTuple):
    """A model's tensors, on the CPU, and their recipe."""

    tensors: dict[str, Tensor]
    recipe: Recipe
    origin: str
    """File or system that they come from."""


def save_weights(
    folder: str | Path, model: nn.Module | Mapping[str, Tensor], recipe: Recipe, metrics: Mapping[str, Any]
) -> Path:
    """Write a weights folder, replacing an earlier one.

    recipe   carries the class names and category ids
    Raises ValueError where the folder holds anything but weights, DiskFull where there is no room for them.
    A crash at any moment leaves the earlier folder or the new one, complete: the files are written and synced
    beside it, and `find_weights` knows the name that the earlier folder has during the exchange.
    """
    if not recipe.classes:
        raise ValueError("expected a recipe with its class names, received none; fill `classes` and `category_ids`")
    folder = Path(folder)
    _refuse_to_replace(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with writing(folder, bytes_of(tensors), draft):
            draft.chmod(0o755)
            write_tensors(draft / MODEL, tensors)
            write_recipe(recipe, draft / CONFIG)
            (draft / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
            write_checksums(draft, [MODEL, CONFIG, METRICS])
            for path in (*draft.iterdir(), draft):
                sync(path)
            _exchange(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder


def bytes_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the numbers in some tensors, of which their file has a few more."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. Raises OSError, with the system's number where a disk is full."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(f"{path} could not be written ({error}); choose another folder") from None
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_weights(path: str | Path) -> Weights:
    """Read the weights that `save_weights` wrote.

    path   a weights folder, a run folder, a checkpoint in it, or a .safetensors file beside its config.yml; of a
           checkpoint of a run that keeps a moving average, that is read
    Raises FileNotFoundError where there are none, ValueError where they cannot be read, are not what was written, or
    hold numbers that are not finite.
    """
    file = find_weights(path)
    config = _recipe_of(file)
    if not config.is_file():
        raise FileNotFoundError(f"expected {CONFIG} beside {file}; copy it from the run that made the weights")
    if _is_checkpoint(file):
        check_files(file.parent, STATE, {MODEL, AVERAGE})
    else:
        check_files(file.parent)
    recipe = read_recipe(config)
    if not recipe.classes:
        raise ValueError(f"{config} names no classes; expected `classes`, a list of names in label order")
    try:
        tensors = _tensors(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a complete safetensors file ({error}); copy it again") from error
    check_finite(tensors, file)
    return Weights(tensors, recipe, str(file))


def check_finite(tensors: Mapping[str, Tensor], origin: str | Path) -> None:
    """Raise ValueError that names the tensors in which a number is NaN, infinite or so large that it soon makes others
    so, as a flipped bit of an exponent does; a model with one finds nothing.
    """
    spoilt = not_finite(tensors)
    large = ""
    if not spoilt:
        spoilt = [name for name, tensor in tensors.items() if not _is_within(tensor, LARGEST)]
        large = f" or exceed {LARGEST:.0e}"
    if spoilt:
        raise ValueError(
            f"{origin}: {some_of(spoilt, 3)} of {len(tensors)} tensors hold numbers that are not finite{large}, with "
            "which nothing can be found; copy the file again, or take weights from before the training diverged"
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors in which a number is NaN or infinite."""
    return [name for name, tensor in tensors.items() if not _is_within(tensor, math.inf)]


def _is_within(tensor: Tensor, most: float) -> bool:
    """Smallest and largest number tell, since NaN passes through, and take a fifth of the time of looking at each."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    known = tensor.float() if tensor.element_size() == 1 else tensor
    return all(bound.isfinite().item() and abs(bound.item()) <= most for bound in torch.aminmax(known))


def _recipe_of(file: Path) -> Path:
    """The recipe beside weights, or that of the run in whose checkpoint they lie."""
    beside, around = file.with_name(CONFIG), file.resolve().parent.parent.parent / CONFIG
    return around if _is_checkpoint(file) and around.is_file() and not beside.is_file() else beside


def _tensors(file: Path) -> dict[str, Tensor]:
    average = file.with_name(AVERAGE)
    averaged = load_file(average) if _is_checkpoint(file) and average.is_file() else {}
    return {**load_file(file), **averaged}


def _is_checkpoint(file: Path) -> bool:
    return file.name == MODEL and file.with_name(STATE).is_file()


def find_weights(path: str | Path) -> Path:
    """Find the .safetensors file that `path` means; a run folder means its best weights, or else its last ones."""
    path = Path(path).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(
                f"expected a weights folder, a run folder or a .safetensors file, received {path}; "
                f"checkpoints of other systems end in {some_of(OF_OTHERS)}"
            )
        return path
    folders = (path, path / BEST, path / LAST)
    for folder in [version for one in folders for version in (one, _previous(one))]:
        if (folder / MODEL).is_file():
            return folder / MODEL
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path} (working directory {Path.cwd()}); expected a folder of {MODEL}")
    raise FileNotFoundError(f"expected {MODEL} or {BEST}/{MODEL} in {path}; it holds {listing(path)}{_advice(path)}")


def _advice(path: Path) -> str:
    """What to do where a folder holds no weights: of a run that was stopped before an evaluation, or of several."""
    if any(one.suffix.lower() in OF_OTHERS or (one / MODEL).is_file() for one in path.iterdir()):
        return "; name one of them"
    if not is_run([one.name for one in path.iterdir()]):
        return ""
    checkpoints = [one.parent for one in (path / CHECKPOINTS).glob(f"step-*/{STATE}") if (one.parent / MODEL).is_file()]
    newest = max(checkpoints, key=lambda one: (len(one.name), one.name), default=None)  # step-9 before step-10
    instead = f", or give its newest checkpoint, {newest}" if newest else ""
    return (
        f"; the run was stopped before its first evaluation: `maskrcnn train {path / CONFIG} {typed('--out')} {path} "
        f"{typed('--resume')} auto` goes on with it{instead}"
    )


def fill(module: nn.Module, tensors: Mapping[str, Tensor], origin: str | Path, advice: str = BESIDE) -> None:
    """Load tensors into a model or a part of one.

    tensors   may lack the counters of live batch norms, which are then kept
    advice    what the error tells to do where they do not fit
    Raises ValueError that lists the tensors that are missing, unknown, of another shape or no floating-point numbers.
    """
    expected = module.state_dict()
    counters = {name: count for name, count in expected.items() if name.endswith("num_batches_tracked")}
    tensors = {**counters, **tensors}
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    other = [
        f"{name} (expected {_shape(tensor)}, received {_shape(tensors[name])})"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    kinds = [
        f"{name} ({tensors[name].dtype})"
        for name, tensor in expected.items()
        if name in tensors and tensor.is_floating_point() and not tensors[name].is_floating_point()
    ]
    faults = [f"{what} {some_of(names)}" for what, names in _faults(missing, unknown, other, kinds) if names]
    if faults:
        raise ValueError(f"the weights in {origin} do not fit the model: {'; '.join(faults)}; {advice}")
    module.load_state_dict(tensors)


def _faults(missing: list[str], unknown: list[str], other: list[str], kinds: list[str]) -> list[tuple[str, list[str]]]:
    return [
        *(("missing:", missing), ("not in the model:", unknown), ("of another shape:", other)),
        ("no floating-point numbers:", kinds),
    ]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"


def _refuse_to_replace(folder: Path) -> None:
    """Raise ValueError where the folder holds anything but earlier weights."""
    ours = {MODEL, CONFIG, METRICS, CHECKSUMS}
    others = sorted({entry.name for entry in folder.iterdir()} - ours) if folder.is_dir() else []
    if others:
        raise ValueError(
            f"{folder} holds {some_of(others)}, which would be lost; expected a new folder, an empty one, or one of "
            "earlier weights"
        )


def _exchange(draft: Path, folder: Path) -> None:
    """Replace `folder` by `draft`. One call cannot replace a directory, so the old one is renamed first."""
    previous = _previous(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(folder, previous)
    os.rename(draft, folder)
    sync(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.previous"
