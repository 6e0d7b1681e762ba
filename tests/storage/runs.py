"""A run's folder as training leaves it, and what of it is in a store."""

import json
import shutil
from pathlib import Path

from maskrcnn.storage.location import at
from maskrcnn.storage.staging import staging_folder

from .object_store import Store

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
"""Of a checkpoint, in the order in which they are uploaded."""
RUN = at("obs://bucket/runs/one")


def begin() -> Path:
    """The folder of a run that has begun."""
    folder = staging_folder(RUN)
    folder.mkdir(parents=True)
    write(folder, "config.yml", "name: one\n")
    write(folder, "metrics.jsonl", '{"step": 1}\n')
    return folder


def write(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def save(folder: Path, step: int, content: str = "weights") -> Path:
    """A checkpoint, which gets its name when it is complete."""
    draft, final = folder / f"checkpoints/.step-{step}", folder / f"checkpoints/step-{step}"
    for name in ("model", "optimizer"):
        write(draft, f"{name}.safetensors", f"{content} {name} {step}")
    write(draft, "state.json", json.dumps({"step": step, "files": {name: {} for name in FILES[:2]}}))
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    return final


def there(store: Store) -> dict[str, bytes]:
    return {key.removeprefix("runs/one/"): thing.content for (_, key), thing in sorted(store.things.items())}


def here(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def changes(store: Store) -> list[str]:
    """What was written and removed, in order."""
    return [
        f"{one.verb} {one.key.removeprefix('runs/one/')}" for one in store.requests if one.verb in ("PUT", "DELETE")
    ]
