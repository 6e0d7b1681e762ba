"""Where a run begins: afresh, or at a checkpoint that fits its recipe."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from maskrcnn.config import Recipe, Role
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.renamed import RENAMED
from maskrcnn.recipes.roles import settings_with
from maskrcnn.run_folder import CHECKPOINTS, CONFIG, STATE
from maskrcnn.runtime.distributed import World
from maskrcnn.sentences import typed
from maskrcnn.storage.location import Where
from maskrcnn.train import checkpoint
from maskrcnn.train.checkpoint import Checkpoint

MAY_CHANGE = settings_with(Role.START, Role.RUN)
"""Settings that may differ when a run is resumed. Categories and the number of images are compared, not paths."""

NUM_IMAGES = "number of training images"


def find_start(
    out: Path, resume: str | None, tell: Callable[[str], None], restarted: bool = False
) -> Checkpoint | None:
    """The checkpoint to go on from, None to start afresh.

    resume   None, `auto` for the newest checkpoint of `out` if there is one, or the folder of a checkpoint, of several,
             or of a run
    restarted   the launcher began the run in `out` before: what that kept is gone on from, whatever `resume` says
    Raises ValueError when `out` would lose a run that it holds, or when there is nothing to resume.
    """
    if restarted and (resume is None or checkpoint.find(out / CHECKPOINTS)):
        resume = "auto"
    if resume == "auto":
        found = checkpoint.read_newest(out / CHECKPOINTS, tell)
        tell(f"going on from {found.path}" if found else f"there is no checkpoint in {out}; starting afresh")
        return found
    if resume is None:
        if _holds_a_run(out):
            raise ValueError(
                f"{out} already holds a run; go on with it by {typed('--resume')} auto, or choose "
                f"another {typed('--out')}"
            )
        return None
    path = Path(resume)
    if (path / STATE).is_file():
        _refuse_to_branch(path, out)
        found = _read(path)
    else:
        found = checkpoint.read_newest(path / CHECKPOINTS, tell) or checkpoint.read_newest(path, tell)
    if found is None:
        raise ValueError(
            f"{resume}: expected a checkpoint (a folder step-<n>) or a run that holds one, found {_instead(path)}"
        )
    if not restarted and _holds_a_run(out) and not found.path.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"{out} already holds another run than {resume}; choose another {typed('--out')}")
    tell(f"going on from {found.path}")
    return found


def _instead(path: Path) -> str:
    """What is at a path where no checkpoint is, and what to type."""
    if not path.exists():
        return f"nothing (working directory {Path.cwd()}); a file of weights, for {typed('--weights')}, would do too"
    if path.is_file():
        return f"none; {typed('--weights')} {path} begins with a file of weights"
    return f"none; {path.parent} holds one" if checkpoint.find(path.parent / CHECKPOINTS) else "none"


def how_to_go_on(out: Path, location: Where, resume: str | None) -> str:
    """Say what to type after a run was stopped: the command itself goes on where it resumed with `auto`.

    out, location   the run's folder on disk, and what the person called it
    """
    again = "the same command" if resume == "auto" else f"{typed('--resume')} auto {typed('--out')} {location}"
    if checkpoint.find(out / CHECKPOINTS):
        return f"stopped; go on with {again}"
    return f"stopped before the first checkpoint; begin afresh with {again}"


def check_agreement(world: World, start: Checkpoint | None) -> None:
    """Wait for all processes; refuse to go on where they found different checkpoints. Raises ValueError."""
    steps = [int(step) for step in world.gather_bytes(str(start.step if start else 0).encode())]
    world.barrier()
    other = next((rank for rank, step in enumerate(steps) if step != steps[0]), None)
    if other is not None:
        raise ValueError(
            f"process {other} would go on from step {steps[other]}, the first one from step {steps[0]}; give every "
            f"machine the same checkpoints: {typed('--out')} in a folder that they share, or an address such as "
            "s3://BUCKET/RUN"
        )


def check_same(recipe: Recipe, found: Checkpoint, num_images: int) -> None:
    """Refuse a checkpoint that the recipe cannot continue; the sentence lists what differs.

    Raises ValueError. Epochs, rates, logging, devices and the size of micro-batches may change.
    """
    stored, now = dict(flatten(found.state["recipe"])), dict(flatten(msgspec.to_builtins(recipe)))
    before = dict(flatten(msgspec.to_builtins(Recipe()))) | stored  # what a setting was before there was one
    former = next((key for key in stored if key in RENAMED), None)
    if former is not None:
        raise ValueError(
            f"{found.path} was written before settings were renamed ({former} is called {RENAMED[former]} now); finish "
            "that run with the version that began it, or start a new run"
        )
    now["train.ema (kept or not)"], before["train.ema (kept or not)"] = recipe.train.ema > 0, "average" in found.tensors
    now[NUM_IMAGES], before[NUM_IMAGES] = num_images, found.state["num_images"]
    keys = [key for key, value in now.items() if value != before.get(key) and key not in MAY_CHANGE]
    if keys == [NUM_IMAGES]:
        raise ValueError(
            f"{found.path} learnt from {before[NUM_IMAGES]} images, the data have {num_images} now; restore them, "
            f"or begin anew with {typed('--weights')} {found.path.parents[1]} and another {typed('--out')}"
        )
    differing = [f"{key}: {before.get(key)} in the checkpoint, {now[key]} now" for key in keys]
    if differing:
        is_network = any(one.startswith("model.") for one in differing)
        again = f", give {typed('--weights')} again if the run began with them," if is_network else ","
        raise ValueError(
            f"{found.path} belongs to another recipe: {'; '.join(differing)}; set these back{again} or start a new run"
        )


def _read(path: Path) -> Checkpoint:
    try:
        return checkpoint.read(path)
    except checkpoint.Damaged as damage:
        raise ValueError(f"{damage}; give the run's folder to go on from its newest whole checkpoint") from damage


def _holds_a_run(out: Path) -> bool:
    return (out / CONFIG).exists() or bool(checkpoint.find(out / CHECKPOINTS))


def _refuse_to_branch(path: Path, out: Path) -> None:
    """Going on from an old checkpoint inside its own run would mix two futures."""
    path = path.resolve()
    newest = next(iter(checkpoint.find(path.parent)), path)
    if newest != path and path.is_relative_to(out.resolve()):
        raise ValueError(
            f"{out} has gone on to {newest.name} since {path.name}; choose another {typed('--out')} to branch off"
        )
