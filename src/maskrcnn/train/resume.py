"""Where a run begins: afresh, or at a checkpoint that fits its recipe."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from maskrcnn.config import Recipe, Role
from maskrcnn.data.identity import difference
from maskrcnn.files import REMEDY, ROOM, DiskFull
from maskrcnn.recipes.flat import flatten
from maskrcnn.recipes.renamed import RENAMED
from maskrcnn.recipes.roles import settings_with
from maskrcnn.run_folder import CHECKPOINTS, CONFIG, STATE
from maskrcnn.runtime.distributed import World
from maskrcnn.sentences import typed
from maskrcnn.storage.location import Where, at
from maskrcnn.train import checkpoint
from maskrcnn.train.checkpoint import Checkpoint
from maskrcnn.train.divergence import Course

MAY_CHANGE = settings_with(Role.START, Role.RUN)
"""Settings that may differ when a run is resumed. Categories and what the data hold are compared, not paths."""


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
        found = _newest(out / CHECKPOINTS, tell)
        tell(f"going on from {found.path}" if found else f"there is no checkpoint in {out}; starting afresh")
        if found is not None:
            _tell_of_growth(found, out, tell)
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
        found = _newest(path / CHECKPOINTS, tell) or _newest(path, tell)
    if found is None:
        raise ValueError(
            f"{resume}: expected a checkpoint (a folder step-<n>) or a run that holds one, found {_instead(path)}"
        )
    if not restarted and _holds_a_run(out) and not found.path.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"{out} already holds another run than {resume}; choose another {typed('--out')}")
    tell(f"going on from {found.path}")
    _tell_of_growth(found, out, tell)
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
    again = _again(location, resume)
    if checkpoint.find(out / CHECKPOINTS):
        return f"stopped; go on with {again}"
    return f"stopped before the first checkpoint; begin afresh with {again}"


def when_there_is_room(error: DiskFull, location: Where, resume: str | None) -> DiskFull:
    """A full disk's sentence with what to type then: the command that began a run is refused where it has begun."""
    return DiskFull(error.errno, str(error).replace(REMEDY, f"{ROOM}, then go on with {_again(location, resume)}"))


def _again(location: Where, resume: str | None) -> str:
    return "the same command" if resume == "auto" else f"{typed('--resume')} auto {typed('--out')} {location}"


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


def check_same(recipe: Recipe, found: Checkpoint, data: dict[str, Any]) -> None:
    """Refuse a checkpoint that the recipe and its data cannot continue; the sentence lists what differs.

    data   `identity` of the training data
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
    keys = [key for key, value in now.items() if value != before.get(key) and key not in MAY_CHANGE]
    differing = [f"{key}: {before.get(key)} in the checkpoint, {now[key]} now" for key in keys]
    of_data = difference(_data_of(found), data)
    if of_data and not differing:
        raise ValueError(
            f"{found.path} {of_data}; restore the data, or begin anew with {typed('--weights')} "
            f"{found.path.parents[1]} and another {typed('--out')}"
        )
    if differing:
        is_network = any(one.startswith("model.") for one in differing)
        again = f", give {typed('--weights')} again if the run began with them," if is_network else ","
        raise ValueError(
            f"{found.path} belongs to another recipe: {'; '.join([*differing, *([of_data] if of_data else [])])}; set "
            f"these back{again} or start a new run"
        )


def _data_of(found: Checkpoint) -> dict[str, Any]:
    """What is known of the data that a checkpoint learnt from: an earlier version wrote the number of images alone."""
    data: dict[str, Any] = found.state.get("data") or {"images": found.state["num_images"]}
    return data


def way_back(course: Course, out: Path, location: Where) -> str:
    """Say which checkpoint is from before the losses grew, as they have by now, and what goes on from it.

    out, location   the run's folder on disk, and what the person called it
    """
    there = [checkpoint.step_of(path) for path in checkpoint.find(out / CHECKPOINTS)]
    newest = max([course.saved, *there])  # which may be on its way to the disk
    step = next((step for step in reversed(course.before_growth) if step in there), None)
    if step is None:
        return f"there is no checkpoint from before; begin anew with another {typed('--out')}"
    resume = "auto" if step == newest else at(location) / CHECKPOINTS / f"step-{step}"
    return f"step-{step} is from before, {typed('--resume')} {resume} {typed('--out')} {location} goes on from it"


def growth(course: Course, out: Path, location: Where) -> str:
    """Say that the last checkpoint is from after the losses grew, and which one is not; arguments as of `way_back`."""
    return (
        f"the losses had grown before step-{course.saved}: {course.loss:.3g} on average, {course.lowest:.3g} at "
        f"their lowest; {way_back(course, out, location)}"
    )


def _tell_of_growth(found: Checkpoint, out: Path, tell: Callable[[str], None]) -> None:
    course = Course.of(found.step, found.state)
    if course.is_grown and found.path.resolve().is_relative_to(out.resolve()):
        tell(growth(course, out, out))


def _read(path: Path) -> Checkpoint:
    try:
        return checkpoint.read(path)
    except checkpoint.Damaged as damage:
        raise ValueError(f"{damage}; give the run's folder to go on from its newest whole checkpoint") from damage
    except PermissionError as error:
        raise _closed(error) from error


def _newest(folder: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    try:
        return checkpoint.read_newest(folder, tell)
    except PermissionError as error:
        raise _closed(error) from error


def _closed(error: PermissionError) -> ValueError:
    return ValueError(f"{error.filename} may not be read by this user; ask its owner, or change its permissions")


def _holds_a_run(out: Path) -> bool:
    return (out / CONFIG).exists() or bool(checkpoint.find(out / CHECKPOINTS))


def _refuse_to_branch(path: Path, out: Path) -> None:
    """Going on from an old checkpoint inside its own run would mix two futures, unless the later one is worth nothing.

    Checkpoints from after the losses grew, and damaged ones, are replaced when the next one is written.
    """
    path = path.resolve()
    if not path.is_relative_to(out.resolve()):
        return
    for later in checkpoint.find(path.parent):
        if later == path:
            return
        if not _is_spoilt(later):
            raise ValueError(
                f"{out} has gone on to {later.name} since {path.name}; choose another {typed('--out')} to branch off"
            )


def _is_spoilt(path: Path) -> bool:
    """Whether a checkpoint is damaged, as far as can be seen at once, or from after the losses grew."""
    with suppress(checkpoint.Damaged):
        state = checkpoint.read_state(path)
        return Course.of(state["step"], state).is_grown
    return True
