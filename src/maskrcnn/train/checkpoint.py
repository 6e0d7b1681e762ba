"""Checkpoints that are complete or not there: `checkpoints/step-<n>/` with safetensors files and `state.json`.

A folder is written beside its final path and gets its name when every byte is on the disk. `state.json`
holds the size and SHA-256 of each file and of itself, so that a damaged checkpoint is never trained on.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from maskrcnn.files import digest, fingerprint, sync
from maskrcnn.run_folder import STATE
from maskrcnn.weights import write_tensors


class Checkpoint(NamedTuple):
    """A checkpoint as `save` was given it."""

    path: Path
    step: int
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


class Damaged(ValueError):
    """A checkpoint that is not what was written."""


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write `folder`/step-<step>; keep `keep` up to it, remove older ones and later ones, which were damaged.

    tensors   one file `<name>.safetensors` for each entry
    state     whatever JSON can say
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*"):  # of a run that was stopped while it wrote
        shutil.rmtree(leftover)
    final, draft = folder / f"step-{step}", folder / f".step-{step}"
    draft.mkdir()
    for name, group in tensors.items():
        write_tensors(draft / f"{name}.safetensors", group)
    files = {file.name: fingerprint(file) for file in sorted(draft.iterdir())}
    content = {"step": step, **state, "files": files}
    (draft / STATE).write_text(json.dumps({**content, "sha256": digest(content)}, indent=1))
    for path in [*draft.iterdir(), draft]:
        sync(path)
    if final.exists():  # a damaged one: training never comes back to a step that was read
        shutil.rmtree(final)
    draft.rename(final)
    sync(folder)
    found = find(folder)
    first = found.index(final)
    for path in [*found[:first], *found[first + keep :]]:
        shutil.rmtree(path)
    return final


def find(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first, damaged ones included."""
    numbered = [(path.name.removeprefix("step-"), path) for path in folder.glob("step-*")]
    return [path for _, path in sorted(((int(n), path) for n, path in numbered if n.isdecimal()), reverse=True)]


def read(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises Damaged with a sentence when a file is missing, cut short or changed."""
    try:
        state = json.loads((path / STATE).read_text())
        expected = state.pop("sha256")
        if expected != digest(state):
            raise Damaged(f"{path}: {STATE} is not what was written")
        files = state.pop("files")
        for name, written in files.items():
            if fingerprint(path / name) != written:
                raise Damaged(f"{path}: {name} is not what was written")
    except Damaged:
        raise
    except (OSError, KeyError, AttributeError, ValueError) as error:
        raise Damaged(f"{path}: {error}") from error
    tensors = {Path(name).stem: safetensors.torch.load_file(path / name) for name in files}
    return Checkpoint(path, state["step"], state, tensors)


def read_newest(folder: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; each damaged one is told of and passed over."""
    for path in find(folder):
        try:
            return read(path)
        except Damaged as damage:
            tell(f"passing over a damaged checkpoint ({damage})")
    return None
