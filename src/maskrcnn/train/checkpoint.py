"""Checkpoints that are complete or not there: `checkpoints/step-<n>/` with safetensors files and `state.json`.

A folder is written beside its final path and gets its name when every byte is on the disk. `state.json`
holds the size and SHA-256 of each file and of itself, so that a damaged checkpoint is never trained on.
"""

import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from maskrcnn.files import digest, fingerprint, sync, with_digest, writing
from maskrcnn.run_folder import STATE
from maskrcnn.sentences import some_of
from maskrcnn.weights import bytes_of, not_finite, write_tensors

ENDING = ".safetensors"
"""End of the names of a checkpoint's other files."""
NUMBERED = re.compile(r"step-(\d{1,18})")
"""Name of a checkpoint in a run."""


class Checkpoint(NamedTuple):
    """A checkpoint as `save` was given it."""

    path: Path
    step: int
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


class Damaged(ValueError):
    """A checkpoint that is not what was written."""


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int,
    besides: Collection[int] = (),
) -> Path:
    """Write `folder`/step-<step>; keep `keep` up to it, remove older ones and later ones, which were damaged.

    tensors   one file `<name>.safetensors` for each entry
    state     whatever JSON can say
    besides   steps of older checkpoints that are kept too
    Raises FloatingPointError where a number is not finite, FileExistsError where something else has the name, DiskFull
    where there is no room.
    """
    spoilt = [f"{name} of the {group}" for group in tensors for name in not_finite(tensors[group])]
    if spoilt:
        raise FloatingPointError(f"step {step} is not kept: {some_of(spoilt, 3)} hold numbers that are not finite")
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*"):  # of a run that was stopped while it wrote
        shutil.rmtree(leftover)
    final, draft = folder / f"step-{step}", folder / f".step-{step}"
    try:
        with writing(final, sum(map(bytes_of, tensors.values())), draft):
            _write(draft, step, tensors, state)
            _give_name(draft, final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _remove_others(final, keep, besides)
    return final


def _write(draft: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    draft.mkdir()
    for name, group in tensors.items():
        write_tensors(draft / f"{name}{ENDING}", group)
    files = {file.name: fingerprint(file) for file in sorted(draft.iterdir())}
    (draft / STATE).write_text(with_digest({"step": step, **state, "files": files}), encoding="utf-8")
    for path in [*draft.iterdir(), draft]:
        sync(path)


def _give_name(draft: Path, final: Path) -> None:
    if final.exists():  # a damaged one: training never comes back to a step that was read
        if not is_ours(final):
            raise FileExistsError(f"{final} is none of this program's checkpoints and has the name of one; move it")
        shutil.rmtree(final)
    draft.rename(final)
    sync(final.parent)


def _remove_others(newest: Path, keep: int, besides: Collection[int]) -> None:
    found = [path for path in find(newest.parent) if is_ours(path)]
    first = found.index(newest)
    for path in [*found[:first], *found[first + keep :]]:
        if step_of(path) not in besides:
            shutil.rmtree(path)


def find(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first, damaged ones and other people's included."""
    return sorted((path for path in folder.glob("step-*") if NUMBERED.fullmatch(path.name)), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step that the name of a checkpoint in a run says."""
    return int(path.name.removeprefix("step-"))


def is_ours(path: Path) -> bool:
    """Whether a folder holds nothing that `save` would not have written; only such a one is ever removed."""
    return path.is_dir() and all(one.name == STATE or one.suffix == ENDING for one in path.iterdir())


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises Damaged with a sentence when a file is missing, cut short or changed, or holds numbers that are not finite;
    PermissionError where it may not be read.
    """
    state = read_state(path)
    files = state.pop("files")
    tensors = {Path(name).stem: _read_tensors(path / name, written) for name, written in files.items()}
    return Checkpoint(path, state["step"], state, tensors)


def read_state(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says besides its tensors, and check that it says what was written; errors as of `read`."""
    try:
        text = (path / STATE).read_text(encoding="utf-8")
        state = json.loads(text)
        expected = state.pop("sha256")
    except PermissionError:
        raise
    except OSError as error:
        raise Damaged(f"{path}: {STATE} cannot be read ({error.strerror}); {_instead(path)}") from error
    except RecursionError as error:
        raise Damaged(f"{path}: {STATE} is nested deeper than any that was written") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{path}: {STATE} is not what was written ({error})") from error
    if expected != digest(state) or text != with_digest(state):
        raise Damaged(f"{path}: {STATE} is not what was written")
    _check_names(path, state)
    return state


def _check_names(path: Path, state: dict[str, Any]) -> None:
    """Raise Damaged where a state contradicts the names around it."""
    step, files = state.get("step"), state.get("files")
    if not isinstance(step, int) or not isinstance(files, dict) or not files:
        raise Damaged(f"{path}: {STATE} names no step or no files")
    strange = [name for name in files if Path(name).name != name or Path(name).suffix != ENDING]
    if strange:
        raise Damaged(f"{path}: {STATE} names {some_of(strange)}, which no checkpoint holds")
    if NUMBERED.fullmatch(path.name) and step_of(path) != step:
        raise Damaged(f"{path} holds step {step}; call it step-{step} again, or copy the one that belongs there")


def _read_tensors(path: Path, written: object) -> dict[str, Tensor]:
    try:
        if fingerprint(path) != written:
            raise Damaged(f"{path.parent}: {path.name} is not what was written")
        tensors = safetensors.torch.load_file(path)
    except (Damaged, PermissionError):
        raise
    except (OSError, ValueError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Damaged(f"{path.parent}: {path.name} cannot be read ({reason})") from error
    spoilt = not_finite(tensors)
    if spoilt:
        raise Damaged(f"{path.parent}: {path.name} holds numbers that are not finite ({some_of(spoilt, 3)})")
    return tensors


def _instead(path: Path) -> str:
    """What a folder without a state holds."""
    if not path.is_dir():
        return "a checkpoint is a folder"
    return f"it holds {some_of(sorted(one.name for one in path.iterdir()))}"


def read_newest(folder: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; each damaged one is told of and passed over.

    Raises PermissionError where one may not be read: it may be whole, and an older one is none of its kind.
    """
    for path in find(folder):
        try:
            return read(path)
        except Damaged as damage:
            tell(f"passing over a damaged checkpoint ({damage})")
    return None
